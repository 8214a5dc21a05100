//! Answers of registries that end a hold, though not at once.

use k8s_openapi::jiff::Timestamp;

use super::Web;
use crate::cluster::{deployment, shared, until, waiting_with_secret};

#[tokio::test]
async fn a_registry_that_does_not_exist_lets_the_rollout_show_it() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-no-host").await;
    let before = Timestamp::now();
    cluster.apply(&web.manifest("gone.invalid/app:1")).await;
    web.until_resumed("an image cannot be had").await;
    let took = Timestamp::now().duration_since(before);
    assert!(took.as_secs() < 30, "{took:?}");
    let note = web.said("RolloutResumed").await.remove(0);
    assert!(note.contains("no such host"), "{note}");
    web.delete().await;
}

#[tokio::test]
async fn a_pull_secret_that_comes_late_does_not_end_a_hold_at_once() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-late-secret").await;
    let image = cluster.push_private("hold-late/app:1").await;
    let object = deployment(web.namespace, "web", waiting_with_secret(&image));
    cluster.apply(&object).await;
    until("the report of the failure", async || {
        let failures = web.said("PrefetchFailed").await;
        failures.iter().any(|note| note.contains("(Unauthorized)"))
    })
    .await;
    assert!(web.is_held().await);
    cluster.right_pull_secret(web.namespace).await;
    web.until_said("RolloutResumed", 1).await;
    web.until_complete().await;
    web.delete().await;
}
