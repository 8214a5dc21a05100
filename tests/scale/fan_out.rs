//! One Deployment, a thousand nodes.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::bed::{NODES, RETAIN, answered, bed, deployment, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_nodes_get_one_pod_each_and_lose_it_again() {
    let mut turn = bed().await;
    let bed = turn.as_mut().unwrap();
    bed.only_steady().await;
    bed.namespace("fan-out").await;
    let started = Instant::now();
    bed.apply(&deployment(
        "fan-out",
        "web",
        "",
        &["acme/web:1", "acme/side:1"],
    ))
    .await;
    let note = bed.event("fan-out", "web", "Prefetched").await;
    assert!(note.contains("1000 nodes"), "{note}");
    eprintln!(
        "1,000 nodes warm {:.1} s after the write: {note}",
        started.elapsed().as_secs_f64()
    );

    // By what was asked, not by what is there: on a slow machine the first have gone before the last have come. A pod's
    // name says its node.
    let creates = bed.writes("fan-out", "create");
    let names: BTreeSet<_> = creates.iter().map(|create| &create.name).collect();
    assert_eq!(names.len(), NODES, "every node has its pod");
    assert_eq!(creates.len(), NODES, "no create is tried twice");
    assert_eq!(answered(&creates, 201), NODES);

    until("the pods to go after their retention", async || {
        bed.pods("fan-out", None).await.is_empty()
    })
    .await;
    assert!(started.elapsed() > RETAIN, "not before it is over");
    let deletes = bed.writes("fan-out", "delete");
    assert_eq!(deletes.len(), NODES, "two writes per node and rollout");
    bed.clear("fan-out").await;
    assert_eq!(bed.writes("fan-out", "create").len(), NODES);
    bed.reset().await;
}
