//! Nodes that are short of disk.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::cluster::{Cluster, EVERY_NODE, alone, deployment, until, waiting};

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
    let status = json!({ "status": { "conditions": [{ "type": "DiskPressure", "status": "True" }] } });
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
    let said = events.iter().any(|note| note.contains("reports DiskPressure"));
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
