//! Nodes that can never run a pod, for want of a resource.

use serde_json::json;

use crate::cluster::{Cluster, deployment, shared, until, waiting};

const GPU: &str = "example.com/gpu";

/// Has a node report a device, as a device plugin does.
async fn add_gpu(cluster: &Cluster, node: &str) {
    let path = GPU.replace('/', "~1");
    let add = |field: &str| json!({ "op": "add", "path": format!("/status/{field}/{path}"), "value": "1" });
    let patch = json!([add("capacity"), add("allocatable")]).to_string();
    let arguments = [
        "patch",
        "node",
        node,
        "--subresource=status",
        "--type=json",
        "-p",
        &patch,
    ];
    cluster.kubectl(&arguments).await;
}

#[tokio::test]
async fn images_go_to_nodes_that_have_the_device_and_to_others_when_they_get_it() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    cluster.namespace("gpu", Some("hold")).await;
    add_gpu(cluster, "node-1").await;
    let image = cluster.push("gpu/app:1").await;
    let mut spec = waiting(&image);
    spec["containers"][0]["resources"] = json!({ "limits": { GPU: 1 } });
    cluster.apply(&deployment("gpu", "web", spec)).await;
    cluster.until_complete("gpu", "web").await;
    let started = &cluster.events("gpu", "web", "PrefetchStarted").await[0];
    assert!(started.contains("to 1 node: "), "{started}");
    let missing = "node-2: a pod wants example.com/gpu: 1, the node has none";
    assert!(started.contains(missing), "{started}");
    let resumed = &cluster.events("gpu", "web", "RolloutResumed").await[0];
    assert!(
        resumed.contains("its images are on 1 of 1 node"),
        "{resumed}"
    );
    assert_eq!(cluster.nodes_with(&image).await, ["node-1"]);

    add_gpu(cluster, "node-2").await;
    until("the image on the second node", async || {
        cluster.nodes_with(&image).await == ["node-1", "node-2"]
    })
    .await;
}
