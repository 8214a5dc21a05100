//! An image that does not exist.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::machine;
use crate::scale::cluster::{TestCluster, cluster, deployment, is_long, third, until};

/// A handful: two on each architecture.
const HANDFUL: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_tag_costs_a_handful_of_pods_and_a_fix_goes_everywhere() {
    if is_long() {
        // Of its own: the others count on theirs to be smaller.
        let _machine = machine().await;
        wrong_tag_and_fix(&mut TestCluster::start(5000).await).await;
    } else {
        wrong_tag_and_fix(&mut *cluster().await).await;
    }
}

async fn wrong_tag_and_fix(cluster: &mut TestCluster) {
    cluster.keep_pods().await;
    cluster.namespace("wrong-tag").await;
    cluster
        .apply(&deployment("wrong-tag", "web", "", &["acme/web:missing"]))
        .await;
    let note = cluster.event("wrong-tag", "web", "PrefetchFailed").await;
    let seen = Timestamp::now();
    let pods = cluster.pods("wrong-tag", None).await;
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
    let handful = cluster.asked_for("wrong-tag").len();
    assert!((1..=HANDFUL).contains(&handful), "{handful} creates");

    cluster
        .apply(&deployment(
            "wrong-tag",
            "web",
            "third=true",
            &["acme/web:2"],
        ))
        .await;
    cluster.event("wrong-tag", "web", "Prefetched").await;
    until("the failed pods to go", async || {
        cluster.pods("wrong-tag", None).await.len() == third()
    })
    .await;
    assert_eq!(cluster.made_once("wrong-tag"), handful + third());
    cluster.clear("wrong-tag").await;
}
