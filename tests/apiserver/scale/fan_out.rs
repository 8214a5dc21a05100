//! One Deployment, a thousand nodes.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::scale::cluster::{NODES, RETAIN, answered, cluster, deployment, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_nodes_get_one_pod_each_and_lose_it_again() {
    let turn = cluster().await;
    let cluster = &*turn;
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
    assert!(note.contains("1000 nodes"), "{note}");
    eprintln!(
        "1,000 nodes warm {:.1} s after the write: {note}",
        started.elapsed().as_secs_f64()
    );

    // By what was asked, not by what is there: on a slow machine the first have gone before the last have come. A pod's
    // name says its node.
    let creates = cluster.writes("fan-out", "create");
    let names: BTreeSet<_> = creates.iter().map(|create| &create.name).collect();
    assert_eq!(names.len(), NODES, "every node has its pod");
    // Where etcd did not answer the API server in time, it has to be.
    let timely = creates.iter().filter(|create| create.code < 500);
    assert_eq!(timely.count(), NODES, "no create is tried twice");
    assert_eq!(answered(&creates, 201), NODES);

    until("the pods to go after their retention", async || {
        cluster.pods("fan-out", None).await.is_empty()
    })
    .await;
    assert!(started.elapsed() > RETAIN, "not before it is over");
    // The log has them a moment later.
    let deletes = || cluster.writes("fan-out", "delete").len();
    until("the deletes", async || deletes() >= NODES).await;
    assert_eq!(deletes(), NODES, "two writes per node and rollout");
    cluster.clear("fan-out").await;
    assert_eq!(cluster.writes("fan-out", "create").len(), creates.len());
}
