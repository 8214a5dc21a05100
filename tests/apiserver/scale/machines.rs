//! Nodes that join, go, come back and flap.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use testbed::FakeNodes;

use crate::scale::cluster::{
    RETAIN, TestCluster, answered, cluster, deployment, node, nodes, slice, until,
};

async fn warm_nodes(cluster: &TestCluster, image: &str) -> usize {
    let warm = cluster.warm("machines").await;
    let of_web = warm.get("web").into_iter().flatten();
    of_web.filter(|(_, found)| found == image).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_warmed_when_they_come_and_not_again_when_they_flap() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    cluster.keep_pods().await;
    cluster.namespace("machines").await;
    let creates = |cluster: &TestCluster| answered(&cluster.writes("machines", "create"), 201);

    // One is not Ready when the rollout begins, and comes back; one is deleted in the middle of it.
    cluster.set_ready("fake-7", false).await;
    until("the node's taint", async || {
        !is_without_taint(cluster).await
    })
    .await;
    let web = |image: &str| deployment("machines", "web", "slice=7", &[image]);
    cluster.apply(&web("acme/web:1")).await;
    until("all but one to be warm", async || {
        warm_nodes(cluster, "acme/web:1").await == slice() - 1
    })
    .await;
    assert_eq!(creates(cluster), slice() - 1);
    cluster.set_ready("fake-7", true).await;
    until("the node that came back to be warm", async || {
        warm_nodes(cluster, "acme/web:1").await == slice()
    })
    .await;

    // It flaps: nothing more is made.
    for _ in 0..20 {
        cluster.set_ready("fake-7", false).await;
        cluster.set_ready("fake-7", true).await;
    }
    let untainted = "the node to be without taint";
    until(untainted, async || is_without_taint(cluster).await).await;
    assert_eq!(
        creates(cluster),
        slice(),
        "one create for each node, flapping or not"
    );

    // Deleted in the middle of a rollout, and made again by the same name.
    let gone = cluster.nodes().get("fake-27").await.unwrap();
    cluster.apply(&web("acme/web:2")).await;
    until("the first pods", async || creates(cluster) > slice()).await;
    cluster
        .nodes()
        .delete("fake-27", &DeleteParams::default())
        .await
        .unwrap();
    until("the others to be warm", async || {
        warm_nodes(cluster, "acme/web:2").await >= slice() - 1
    })
    .await;
    let mut again = gone;
    again.metadata.uid = None;
    again.metadata.resource_version = None;
    again.metadata.creation_timestamp = None;
    again.metadata.managed_fields = None;
    again.spec = None;
    // kwok makes it Ready.
    if let Some(status) = again.status.as_mut() {
        status.conditions = None;
        status.phase = None;
    }
    // A pod's creation is known to the second, and so is a node's.
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster
        .nodes()
        .create(&PostParams::default(), &again)
        .await
        .unwrap();
    let uid = cluster.nodes().get("fake-27").await.unwrap().uid();
    assert!(uid.is_some());
    let on_it = async || {
        let pods = cluster.pods("machines", None).await;
        let joined = cluster.nodes().get("fake-27").await.unwrap();
        let joined = joined.metadata.creation_timestamp.unwrap();
        let mut pods = pods.into_iter().filter(|pod| node(pod) == "fake-27");
        pods.any(|pod| {
            pod.metadata.creation_timestamp.as_ref() >= Some(&joined)
                && pod
                    .status
                    .is_some_and(|s| s.phase.as_deref() == Some("Succeeded"))
        })
    };
    until("the node that was made again to be warm", on_it).await;

    // Long after the rollout, a node joins.
    cluster.remove_pods().await;
    until("the retention to be over", async || {
        cluster.pods("machines", None).await.is_empty()
    })
    .await;
    tokio::time::sleep(RETAIN / 10).await;
    let before = creates(cluster);
    let mut template = deployment("machines", "web", "slice=7", &["acme/web:2"]);
    template["spec"]["replicas"] = json!(1);
    // Its own pod cannot be scheduled, which is of no concern here.
    template["spec"]["template"]["spec"]["schedulerName"] = json!("nobody");
    cluster.apply(&template).await;
    let fake = FakeNodes {
        count: 1,
        ..FakeNodes::default()
    };
    let join = |_: usize, node: &mut k8s_openapi::api::core::v1::Node| {
        node.labels_mut().insert("slice".into(), "7".into());
    };
    cluster.plane.add_fake_nodes(fake, join).await.unwrap();
    until("the node that joined to be warm", async || {
        warm_nodes(cluster, "acme/web:2").await == 1
    })
    .await;
    assert_eq!(creates(cluster), before + 1, "that node, and no other");
    cluster.clear("machines").await;
    cluster
        .nodes()
        .delete(&format!("fake-{}", nodes()), &DeleteParams::default())
        .await
        .unwrap();
}

async fn is_without_taint(cluster: &TestCluster) -> bool {
    let node = cluster.nodes().get("fake-7").await.unwrap();
    let taints = node.spec.and_then(|spec| spec.taints);
    taints.unwrap_or_default().is_empty()
}
