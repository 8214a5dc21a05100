//! A namespace whose quota has no room for prefetch pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::bed::{Bed, answered, bed, deployment, until};

/// Nodes of the Deployment.
const NODES: usize = 50;
/// The default of `--max-writes`: what is on its way when the first refusal comes.
const IN_FLIGHT: usize = 64;

async fn quota(bed: &Bed, pods: usize) {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "pods" },
        "spec": { "hard": { "pods": pods.to_string() } },
    });
    let api: kube::Api<ResourceQuota> = bed.api("quota");
    let params = PatchParams::apply("test").force();
    api.patch("pods", &params, &Patch::Apply(quota))
        .await
        .unwrap();
    until("the quota to be counted", async || {
        let counted = api.get("pods").await.unwrap().status;
        let hard = counted.and_then(|status| status.hard?.get("pods").cloned());
        hard.is_some_and(|hard| hard.0 == pods.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_said_once_not_asked_all_the_time_and_passes() {
    let mut turn = bed().await;
    let bed = turn.as_mut().unwrap();
    bed.keep_pods().await;
    bed.namespace("quota").await;
    quota(bed, 3).await;
    bed.apply(&deployment("quota", "web", "slice=3", &["acme/web:1"]))
        .await;
    let note = bed.event("quota", "web", "PrefetchBlocked").await;
    assert!(note.contains("exceeded quota"), "{note}");
    // The shortest pause is longer than this.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = bed.writes("quota", "create").len();
    assert!(asked <= 3 + IN_FLIGHT, "{asked} creates");
    let events = bed.events("quota", "web").await;
    let blocked = events
        .iter()
        .filter(|(reason, _)| reason == "PrefetchBlocked");
    assert_eq!(blocked.count(), 1, "{events:?}");

    quota(bed, 200).await;
    bed.event("quota", "web", "Prefetched").await;
    assert_eq!(answered(&bed.writes("quota", "create"), 201), NODES);
    bed.clear("quota").await;
    bed.reset().await;
}
