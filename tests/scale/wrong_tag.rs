//! An image that does not exist.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::bed::{Bed, alone, bed, deployment, is_long, until};

/// A handful: two on each architecture.
const HANDFUL: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_tag_costs_a_handful_of_pods_and_a_fix_goes_everywhere() {
    if is_long() {
        // Of its own: the others count on theirs to be smaller.
        let _turn = alone().await;
        wrong_tag_and_fix(&mut Bed::start(5000).await).await;
    } else {
        wrong_tag_and_fix(bed().await.as_mut().unwrap()).await;
    }
}

async fn wrong_tag_and_fix(bed: &mut Bed) {
    bed.keep_pods().await;
    bed.namespace("wrong-tag").await;
    bed.apply(&deployment("wrong-tag", "web", "", &["acme/web:missing"]))
        .await;
    let note = bed.event("wrong-tag", "web", "PrefetchFailed").await;
    let seen = Timestamp::now();
    let pods = bed.pods("wrong-tag", None).await;
    let failed = pods
        .iter()
        .filter_map(|pod| pod.status.as_ref()?.start_time.as_ref());
    let took = seen.duration_since(failed.map(|time| time.0).min().unwrap());
    eprintln!("the verdict came {took:.1?} after the first pod's failure: {note}");
    assert!(took < SignedDuration::from_secs(30), "{took:?}");
    assert!(note.contains("acme/web:missing"), "{note}");
    // The verdict may be there before the last of the wave is sent.
    assert!(
        note.contains("not found") && note.contains(" nodes not tried"),
        "{note}"
    );

    // Whatever waits for the wave to be over, waits no longer than this.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let handful = bed.asked_for("wrong-tag").len();
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
    assert_eq!(bed.made_once("wrong-tag"), handful + 300);
    bed.clear("wrong-tag").await;
    bed.reset().await;
}
