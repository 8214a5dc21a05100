//! Nodes that are short of disk.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::cluster::{
    Cluster, EVERY_NODE, SMALL_IMAGES, alone, alone_with, deployment, until, waiting,
};

const NODE: &str = "node-3";

/// The prefetch pods of a Deployment on a node.
async fn pods_on(cluster: &Cluster, namespace: &str, name: &str, node: &str) -> Vec<Pod> {
    let pods = cluster.prefetch_pods(namespace, name).await.into_iter();
    let on_node = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        spec.is_some_and(|spec| spec.node_name.as_deref() == Some(node))
    };
    pods.filter(on_node).collect()
}

/// Waits until each node has one pod of a Deployment in a phase, whose kubelet knows it.
async fn until_on_every_node(cluster: &Cluster, namespace: &str, name: &str, phase: &str) {
    until("a prefetch pod on every node", async || {
        let pods = cluster.prefetch_pods(namespace, name).await;
        let is_known = |pod: &Pod| {
            let status = pod.status.as_ref();
            let phase_is = |found: &str| found == phase;
            status.is_some_and(|status| {
                status.start_time.is_some() && status.phase.as_deref().is_some_and(phase_is)
            })
        };
        pods.len() == EVERY_NODE.len() && pods.iter().all(is_known)
    })
    .await;
}

#[tokio::test]
async fn all_prefetch_pods_go_from_a_node_with_disk_pressure() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    let namespace = "short-of-disk";
    cluster.namespace(namespace, Some("enabled")).await;
    // Its rollout is never complete, so that its finished pods stay.
    let image = cluster.push("short/app:1").await;
    let mut object = deployment(namespace, "finished", waiting(&image));
    let gates = json!([{ "conditionType": "example.com/never" }]);
    object["spec"]["template"]["spec"]["readinessGates"] = gates;
    cluster.apply(&object).await;
    cluster.until_prefetched(namespace, "finished", 1).await;
    until_on_every_node(cluster, namespace, "finished", "Succeeded").await;
    // Nothing listens where its image is.
    let mut object = deployment(namespace, "hangs", waiting("127.0.0.1:1/app:1"));
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
    until_on_every_node(cluster, namespace, "hangs", "Pending").await;

    // The kubelet would say at once that there is room.
    let frozen = cluster.nodes.freeze_kubelet(NODE).unwrap();
    let status =
        json!({ "status": { "conditions": [{ "type": "DiskPressure", "status": "True" }] } });
    let status = status.to_string();
    let patch = ["patch", "node", NODE, "--subresource=status", "-p", &status];
    cluster.kubectl(&patch).await;
    for name in ["finished", "hangs"] {
        until("the pods there to be deleted", async || {
            let pods = pods_on(cluster, namespace, name, NODE).await;
            let deleting = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
            pods.iter().all(deleting)
        })
        .await;
        for node in &EVERY_NODE[..2] {
            let pods = pods_on(cluster, namespace, name, node).await;
            let stays = pods.len() == 1 && pods[0].metadata.deletion_timestamp.is_none();
            assert!(stays, "{name} on {node}");
        }
    }
    let events = cluster.events(namespace, "hangs", "PrefetchFailed").await;
    let said = events
        .iter()
        .any(|note| note.contains("reports DiskPressure"));
    assert!(said, "{events:?}");

    drop(frozen);
    until("a pod on the node that has room again", async || {
        let pods = pods_on(cluster, namespace, "hangs", NODE).await;
        let new = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
        pods.len() == 1 && pods.iter().all(new)
    })
    .await;
    let finished = pods_on(cluster, namespace, "finished", NODE).await;
    assert!(finished.is_empty(), "{finished:?}");
    let delete = ["delete", "namespace", namespace, "--wait=false"];
    cluster.kubectl(&delete).await;
}

#[tokio::test]
async fn an_image_that_a_node_reports_as_too_large_is_pulled_on_no_other() {
    let Some(turn) = alone_with(Some(SMALL_IMAGES)).await else {
        return;
    };
    let cluster = &*turn;
    let image = cluster.image("large/app:1").random_layer(2 << 20, 1);
    let registry = cluster.nodes.registry();
    let large = registry.push("large/app:1", &image).await.unwrap();
    cluster.nodes.pull_image("node-1", &large).await.unwrap();
    until("node-1 to report the image", async || {
        let names = "jsonpath={.status.images[*].names}";
        let get = ["get", "node", "node-1", "-o", names];
        cluster.kubectl(&get).await.contains(&large)
    })
    .await;

    let namespace = "large";
    cluster.namespace(namespace, Some("hold")).await;
    let mut object = deployment(namespace, "web", waiting(&large));
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
    until("headstart's word that the image is too large", async || {
        let events = cluster.events(namespace, "web", "ImageNotPrefetched").await;
        let allows = "and --max-image-size allows 1Mi";
        events
            .iter()
            .any(|note| note.contains(&large) && note.ends_with(allows))
    })
    .await;
    let started = cluster.events(namespace, "web", "PrefetchStarted").await;
    let skipped = format!("node-3: image {large:?} takes ");
    assert!(started[0].contains(&skipped), "{started:?}");
    // The rollout goes on, and an image whose size is not known is pulled.
    cluster.until_complete(namespace, "web").await;
    assert_eq!(cluster.creates_in(namespace), 0);
    assert_eq!(cluster.nodes_with(&large).await, ["node-1"]);
    let small = cluster.push("large/small:1").await;
    cluster
        .apply(&deployment(namespace, "small", waiting(&small)))
        .await;
    cluster.until_prefetched(namespace, "small", 1).await;
    let delete = ["delete", "namespace", namespace, "--wait=false"];
    cluster.kubectl(&delete).await;
}
