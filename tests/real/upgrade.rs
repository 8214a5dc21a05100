//! An upgrade of headstart itself is noticed by nobody who writes.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cluster::{cluster, deployment, waiting};

/// A write that waits for a webhook that does not answer takes `timeoutSeconds`, which is 2 s.
const LATE: Duration = Duration::from_millis(1500);
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_fails_no_call_and_delays_no_write() {
    let Some(turn) = cluster().await else { return };
    let cluster = turn.as_ref().unwrap();
    cluster.namespace("upgrade", Some("enabled")).await;
    // On no node: it is about the calls.
    let mut spec = waiting("registry.example/app:0");
    spec["nodeSelector"] = json!({ "nowhere": "true" });
    let mut object = deployment("upgrade", "web", spec);
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;

    let before = cluster
        .sum_of_metric("apiserver_admission_webhook_fail_open_count{")
        .await;
    let calls = cluster.webhook_calls().await;
    let stop = CancellationToken::new();
    let writing = tokio::spawn(write(cluster.api("upgrade"), stop.clone()));
    cluster
        .kubectl(&[
            "rollout",
            "restart",
            "-n",
            "headstart",
            "deployment/headstart",
        ])
        .await;
    cluster
        .headstart
        .wait_until_ready(cluster.control_plane())
        .await
        .unwrap();
    // The old replicas serve on for a while; then they are gone.
    crate::cluster::until("the old replicas to be gone", async || {
        cluster
            .kubectl(&["get", "pods", "-n", "headstart", "-o", "name"])
            .await
            .lines()
            .count()
            == 2
    })
    .await;
    stop.cancel();
    let latencies = writing.await.unwrap();

    let longest = latencies.iter().max().copied().unwrap_or_default();
    let failed = cluster
        .sum_of_metric("apiserver_admission_webhook_fail_open_count{")
        .await
        - before;
    eprintln!(
        "{} writes during the upgrade, the longest took {longest:?}, {failed} calls failed",
        latencies.len()
    );
    assert!(latencies.len() > 50, "{}", latencies.len());
    assert!(
        cluster.webhook_calls().await - calls >= 50.0,
        "the writes called headstart"
    );
    assert_eq!(failed, 0.0);
    assert!(longest < LATE, "{longest:?}");

    let image = cluster.push("upgrade/app:1").await;
    cluster
        .apply(&deployment("upgrade", "after", waiting(&image)))
        .await;
    cluster.until_prefetched("upgrade", "after", 1).await;
}

/// Changes the image again and again; how long each write took.
async fn write(deployments: Api<Deployment>, stop: CancellationToken) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while !stop.is_cancelled() {
        let image = format!("registry.example/app:{}", latencies.len() + 1);
        let containers = json!([{ "name": "app", "image": image }]);
        let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        let started = Instant::now();
        deployments
            .patch("web", &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .unwrap();
        latencies.push(started.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    latencies
}
