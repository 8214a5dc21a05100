//! Nodes that join, go, come back and flap.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use testbed::FakeNodes;

use crate::bed::{Bed, RETAIN, answered, bed, deployment, node, until};

/// Nodes of the Deployment.
const NODES: usize = 50;

async fn warm_nodes(bed: &Bed, image: &str) -> usize {
    let warm = bed.warm("machines").await;
    let of_web = warm.get("web").into_iter().flatten();
    of_web.filter(|(_, found)| found == image).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_warmed_when_they_come_and_not_again_when_they_flap() {
    let mut turn = bed().await;
    let bed = turn.as_mut().unwrap();
    bed.keep_pods().await;
    bed.namespace("machines").await;
    let creates = |bed: &Bed| answered(&bed.writes("machines", "create"), 201);

    // One is not Ready when the rollout begins, and comes back; one is deleted in the middle of it.
    bed.set_ready("fake-7", false).await;
    until("the node's taint", async || !is_without_taint(bed).await).await;
    let web = |image: &str| deployment("machines", "web", "slice=7", &[image]);
    bed.apply(&web("acme/web:1")).await;
    until("all but one to be warm", async || {
        warm_nodes(bed, "acme/web:1").await == NODES - 1
    })
    .await;
    assert_eq!(creates(bed), NODES - 1);
    bed.set_ready("fake-7", true).await;
    until("the node that came back to be warm", async || {
        warm_nodes(bed, "acme/web:1").await == NODES
    })
    .await;

    // It flaps: nothing more is made.
    for _ in 0..20 {
        bed.set_ready("fake-7", false).await;
        bed.set_ready("fake-7", true).await;
    }
    let untainted = "the node to be without taint";
    until(untainted, async || is_without_taint(bed).await).await;
    assert_eq!(
        creates(bed),
        NODES,
        "one create for each node, flapping or not"
    );

    // Deleted in the middle of a rollout, and made again by the same name.
    let gone = bed.nodes().get("fake-27").await.unwrap();
    bed.apply(&web("acme/web:2")).await;
    until("the first pods", async || creates(bed) > NODES).await;
    bed.nodes()
        .delete("fake-27", &DeleteParams::default())
        .await
        .unwrap();
    until("the others to be warm", async || {
        warm_nodes(bed, "acme/web:2").await >= NODES - 1
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
    bed.nodes()
        .create(&PostParams::default(), &again)
        .await
        .unwrap();
    let uid = bed.nodes().get("fake-27").await.unwrap().uid();
    assert!(uid.is_some());
    let on_it = async || {
        let pods = bed.pods("machines", None).await;
        let joined = bed.nodes().get("fake-27").await.unwrap();
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
    bed.reset().await;
    until("the retention to be over", async || {
        bed.pods("machines", None).await.is_empty()
    })
    .await;
    tokio::time::sleep(RETAIN / 10).await;
    let before = creates(bed);
    let mut template = deployment("machines", "web", "slice=7", &["acme/web:2"]);
    template["spec"]["replicas"] = json!(1);
    // Its own pod cannot be scheduled, which is of no concern here.
    template["spec"]["template"]["spec"]["schedulerName"] = json!("nobody");
    bed.apply(&template).await;
    let fake = FakeNodes {
        count: 1,
        ..FakeNodes::default()
    };
    let join = |_: usize, node: &mut k8s_openapi::api::core::v1::Node| {
        node.labels_mut().insert("slice".into(), "7".into());
    };
    bed.plane.add_fake_nodes(fake, join).await.unwrap();
    until("the node that joined to be warm", async || {
        warm_nodes(bed, "acme/web:2").await == 1
    })
    .await;
    assert_eq!(creates(bed), before + 1, "that node, and no other");
    bed.clear("machines").await;
    bed.nodes()
        .delete(
            &format!("fake-{}", crate::bed::NODES),
            &DeleteParams::default(),
        )
        .await
        .unwrap();
}

async fn is_without_taint(bed: &Bed) -> bool {
    let node = bed.nodes().get("fake-7").await.unwrap();
    let taints = node.spec.and_then(|spec| spec.taints);
    taints.unwrap_or_default().is_empty()
}
