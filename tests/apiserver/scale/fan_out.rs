//! One Deployment, every node.

use std::collections::BTreeSet;
use std::time::Instant;

use kube::api::DeleteParams;
use testbed::FakeNodes;

use crate::scale::cluster::{RETAIN, answered, cluster, deployment, nodes, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_node_gets_one_pod_and_loses_it_again() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    cluster.remove_pods().await;
    let nodes = nodes();
    cluster.namespace("fan-out").await;
    let started = Instant::now();
    cluster
        .apply(&deployment(
            "fan-out",
            "web",
            "",
            &["acme/web:1", "acme/side:1"],
        ))
        .await;
    let note = cluster.event("fan-out", "web", "Prefetched").await;
    assert!(note.contains(&format!("{nodes} nodes")), "{note}");
    eprintln!(
        "{nodes} nodes warm {:.1} s after the write: {note}",
        started.elapsed().as_secs_f64()
    );

    // A node joins, which is not ready at first.
    let one = FakeNodes {
        count: 1,
        ..FakeNodes::default()
    };
    cluster.plane.add_fake_nodes(one, |_, _| {}).await.unwrap();
    let joined = format!("fake-{nodes}");
    let nodes = nodes + 1;
    until("the node that joined to get its pod", async || {
        cluster.asked_for("fan-out").len() == nodes
    })
    .await;

    // By what was asked, not by what is there: on a slow machine the first have gone before the last have come. A pod's
    // name says its node.
    let creates = cluster.writes("fan-out", "create");
    let names: BTreeSet<_> = creates.iter().map(|create| &create.name).collect();
    assert_eq!(names.len(), nodes, "every node has its pod");
    // Where etcd did not answer the API server in time, it has to be.
    let timely = creates.iter().filter(|create| create.code < 500);
    assert_eq!(timely.count(), nodes, "no create is tried twice");
    assert_eq!(answered(&creates, 201), nodes);

    until("the pods to go after their retention", async || {
        cluster.pods("fan-out", None).await.is_empty()
    })
    .await;
    assert!(started.elapsed() > RETAIN, "not before it is over");
    // The log has them a moment later.
    let deletes = || cluster.writes("fan-out", "delete").len();
    until("the deletes", async || deletes() >= nodes).await;
    assert_eq!(deletes(), nodes, "two writes per node and rollout");
    cluster.clear("fan-out").await;
    assert_eq!(cluster.writes("fan-out", "create").len(), creates.len());
    cluster
        .nodes()
        .delete(&joined, &DeleteParams::default())
        .await
        .unwrap();
}
