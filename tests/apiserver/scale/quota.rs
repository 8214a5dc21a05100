//! A namespace whose quota has no room for prefetch pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::scale::cluster::{TestCluster, answered, deployment, slice, until};

async fn quota(cluster: &TestCluster, pods: usize) {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "pods" },
        "spec": { "hard": { "pods": pods.to_string() } },
    });
    let api: kube::Api<ResourceQuota> = cluster.api("quota");
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

pub(crate) async fn is_said_once_not_asked_all_the_time_and_passes(cluster: &TestCluster) {
    cluster.namespace("quota").await;
    quota(cluster, 3).await;
    cluster
        .apply(&deployment("quota", "web", "slice=3", &["acme/web:1"]))
        .await;
    let note = cluster.event("quota", "web", "PrefetchBlocked").await;
    assert!(note.contains("exceeded quota"), "{note}");
    // The shortest pause is longer than this.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = cluster.writes("quota", "create").len();
    // Less than `--max-writes`: all may be on their way when the first is refused.
    assert!(asked <= slice(), "{asked} creates");
    let events = cluster.events("quota", "web").await;
    let blocked = events
        .iter()
        .filter(|(reason, _)| reason == "PrefetchBlocked");
    assert_eq!(blocked.count(), 1, "{events:?}");

    quota(cluster, 200).await;
    cluster.event("quota", "web", "Prefetched").await;
    assert_eq!(answered(&cluster.writes("quota", "create"), 201), slice());
    cluster.clear("quota").await;
}
