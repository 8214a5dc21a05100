//! Nodes that have almost as many pods as they take.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::cluster::{Cluster, alone, deployment, until, waiting};

/// The namespace of the pods that fill the nodes.
const FILLS: &str = "slots-fill";
const MAX_PODS: usize = 110;

/// Returns the number of pods on a node that have not ended.
async fn pods_on(cluster: &Cluster, node: &str) -> usize {
    let fields = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    let pods = Api::<Pod>::all(cluster.control_plane().client().unwrap());
    let on_node = ListParams::default().fields(&fields);
    pods.list_metadata(&on_node).await.unwrap().items.len()
}

/// Fills a node until it has so many pods. They wait for a ConfigMap that does not exist: the kubelet counts them, and starts no
/// container.
async fn fill(cluster: &Cluster, node: &str, pods: usize) {
    let api = cluster.api::<Pod>(FILLS);
    for index in pods_on(cluster, node).await..pods {
        let pod = json!({
            "metadata": { "name": format!("{node}-{index}") },
            "spec": {
                "nodeName": node, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                "containers": [{ "name": "c", "image": "registry.example/none:1" }],
                "volumes": [{ "name": "v", "configMap": { "name": "absent" } }],
            },
        });
        let pod = serde_json::from_value(pod).unwrap();
        api.create(&PostParams::default(), &pod).await.unwrap();
    }
    until("the kubelet to take the pods", async || {
        let pods = api.list(&ListParams::default()).await.unwrap().items;
        let mut on_node = pods.iter().filter(|pod| {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.node_name.as_deref()) == Some(node)
        });
        on_node.all(|pod| {
            let status = pod.status.as_ref();
            status.is_some_and(|status| status.start_time.is_some())
        })
    })
    .await;
    assert_eq!(pods_on(cluster, node).await, pods);
}

/// Returns the messages of the kubelets that refused a pod for want of a slot.
async fn refused(cluster: &Cluster) -> Vec<String> {
    let events = Api::<Event>::all(cluster.control_plane().client().unwrap());
    let refused = ListParams::default().fields("reason=OutOfpods");
    let events = events.list(&refused).await.unwrap().items.into_iter();
    events.filter_map(|event| event.message).collect()
}

#[tokio::test]
async fn no_rollout_takes_the_last_slot_of_a_node() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    let before = refused(cluster).await;
    for (namespace, mode) in [("slots", Some("enabled")), (FILLS, None)] {
        cluster.namespace(namespace, mode).await;
    }
    fill(cluster, "node-2", MAX_PODS - 1).await;
    fill(cluster, "node-3", MAX_PODS).await;
    for version in 1..=20 {
        let image = cluster.push(&format!("slots/app:{version}")).await;
        cluster
            .apply(&deployment("slots", "web", waiting(&image)))
            .await;
        until("the image on the node that has room", async || {
            let pods = cluster.prefetch_pods("slots", "web").await;
            let is_there = cluster.nodes_with(&image).await.contains(&"node-1".into());
            // With the word about the others, all nodes have been looked at.
            let failed = cluster.events("slots", "web", "PrefetchFailed").await;
            assert!(
                pods.iter()
                    .all(|pod| headstart_core::pod::node_of(pod) == Some("node-1"))
            );
            is_there && !failed.is_empty()
        })
        .await;
        cluster.until_complete("slots", "web").await;
    }
    assert_eq!(refused(cluster).await, before);
    let said = cluster.events("slots", "web", "PrefetchFailed").await;
    let full = |note: &String| note.contains("the node takes 110 pods and has 1");
    assert!(said.iter().all(full), "{said:?}");
    for namespace in ["slots", FILLS] {
        cluster.kubectl(&["delete", "namespace", namespace]).await;
    }
}
