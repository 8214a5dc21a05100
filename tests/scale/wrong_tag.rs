//! An image that does not exist.

use std::time::{Duration, Instant};

use crate::bed::{Bed, alone, answered, bed, deployment, is_long, until};

/// A handful: two on each architecture.
const HANDFUL: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_tag_costs_a_handful_of_pods_and_a_fix_goes_everywhere() {
    if is_long() {
        // Of its own: the others count on theirs to be smaller.
        let _turn = alone().await;
        wrong_tag_and_fix(&Bed::start(5000).await).await;
    } else {
        wrong_tag_and_fix(bed().await.as_ref().unwrap()).await;
    }
}

async fn wrong_tag_and_fix(bed: &Bed) {
    bed.namespace("wrong-tag").await;
    let started = Instant::now();
    bed.apply(&deployment("wrong-tag", "web", "", &["acme/web:missing"]))
        .await;
    let note = bed.event("wrong-tag", "web", "PrefetchFailed").await;
    eprintln!(
        "the verdict came {:.1} s after the write: {note}",
        started.elapsed().as_secs_f64()
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(note.contains("acme/web:missing"), "{note}");
    // The verdict may be there before the last of the wave is sent.
    assert!(
        note.contains("not found") && note.contains(" nodes not tried"),
        "{note}"
    );

    // Whatever waits for the wave to be over, waits no longer than this.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let handful = bed.writes("wrong-tag", "create").len();
    assert!((1..=HANDFUL).contains(&handful), "{handful} creates");

    bed.apply(&deployment(
        "wrong-tag",
        "web",
        "third=true",
        &["acme/web:2"],
    ))
    .await;
    bed.event("wrong-tag", "web", "Prefetched").await;
    until("the failed pods to go", async || {
        bed.pods("wrong-tag", None).await.len() == 300
    })
    .await;
    let creates = bed.writes("wrong-tag", "create");
    assert_eq!(answered(&creates, 201), handful + 300);
    bed.clear("wrong-tag").await;
}
