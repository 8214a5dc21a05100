//! Holds on nodes of which one does not answer, or refuses the prefetch pod.

use std::cell::Cell;
use std::time::{Duration, Instant};

use headstart_core::api::well_known::{MANAGED_BY_LABEL, MANAGER};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use super::Web;
use crate::cluster::{Cluster, alone, until};

const NODE: &str = "node-3";

#[tokio::test]
async fn a_kubelet_that_is_frozen_is_not_waited_for() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-frozen").await;
    let image = cluster.push("hold-frozen/app:1").await;
    let frozen = cluster.nodes.freeze_kubelet(NODE).unwrap();
    let started = Instant::now();
    cluster.apply(&web.manifest(&image)).await;
    assert!(web.is_held().await);
    web.until_resumed("on 2 of 3 nodes; 1 node not waited for")
        .await;
    let took = started.elapsed();
    drop(frozen);
    assert!(took < Duration::from_secs(30), "{took:?}");
    let failed = web.said("PrefetchFailed").await;
    assert!(
        failed.len() == 1 && failed[0].contains(NODE) && failed[0].contains("does not answer"),
        "{failed:?}"
    );
    // It answers now, and gets the image too.
    until("the image on the node that was frozen", async || {
        cluster.nodes_with(&image).await.len() == 3
    })
    .await;
    web.until_complete().await;
    web.delete().await;
}

/// The CPU that no pod on a node has asked for, in thousandths; `None` while a pod is about to end.
async fn free_cpu(cluster: &Cluster, node: &str) -> Option<i64> {
    let client = cluster.control_plane().client().unwrap();
    let stored = Api::<Node>::all(client.clone()).get(node).await.unwrap();
    let allocatable = stored.status.unwrap().allocatable.unwrap();
    let fields = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    let on_node = ListParams::default().fields(&fields);
    let pods = Api::<Pod>::all(client).list(&on_node).await.unwrap();
    let is_ending = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        let manager = labels.and_then(|labels| labels.get(MANAGED_BY_LABEL));
        // A prefetch pod ends by itself.
        pod.metadata.deletion_timestamp.is_some() || manager.is_some_and(|name| name == MANAGER)
    };
    if pods.iter().any(is_ending) {
        return None;
    }
    let containers = pods
        .items
        .into_iter()
        .flat_map(|pod| pod.spec.unwrap().containers);
    let requests = containers.filter_map(|container| {
        let requests = container.resources?.requests?;
        requests.get("cpu").map(|cpu| millis(&cpu.0))
    });
    Some(millis(&allocatable["cpu"].0) - requests.sum::<i64>())
}

/// Reads a quantity of CPU.
fn millis(quantity: &str) -> i64 {
    match quantity.strip_suffix('m') {
        Some(millis) => millis.parse().unwrap(),
        None => quantity.parse::<i64>().unwrap() * 1000,
    }
}

#[tokio::test]
async fn a_node_without_a_free_millicore_is_not_waited_for() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-full").await;
    let image = cluster.push("hold-full/app:1").await;
    cluster.namespace("fills", None).await;
    let free = Cell::new(None);
    until("the pods that end on the node to be gone", async || {
        free.set(free_cpu(cluster, NODE).await);
        free.get().is_some()
    })
    .await;
    let cpu = format!("{}m", free.get().unwrap());
    let pause = cluster.push("hold-full/pause:1").await;
    cluster
        .apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": "fills", "name": "fill" },
            "spec": {
                "nodeName": NODE, "terminationGracePeriodSeconds": 0,
                "containers": [{ "name": "c", "image": pause, "resources": { "requests": { "cpu": cpu } } }],
            },
        }))
        .await;
    until("the node to be full", async || {
        let fill = cluster.api::<Pod>("fills").get("fill").await.unwrap();
        fill.status.and_then(|status| status.phase).as_deref() == Some("Running")
    })
    .await;
    assert_eq!(free_cpu(cluster, NODE).await, Some(0));
    let started = Instant::now();
    cluster.apply(&web.manifest(&image)).await;
    web.until_resumed("on 2 of 3 nodes; 1 node not waited for")
        .await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let failed = web.said("PrefetchFailed").await;
    assert!(
        failed.len() == 1 && failed[0].contains(NODE) && failed[0].contains("OutOfcpu"),
        "{failed:?}"
    );
    assert!(!failed[0].contains(&image), "{failed:?}");
    let resumed = web.said("RolloutResumed").await;
    assert!(resumed[0].contains("OutOfcpu"), "{resumed:?}");
    for namespace in ["fills", web.namespace] {
        // The next test needs the room.
        let delete = ["delete", "namespace", namespace];
        cluster.kubectl(&delete).await;
    }
}
