//! headstart is gone, hangs, or is not who it should be: users' writes go through, in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use headstart::testing::{Ca, Resolver, Shutdown, serve_tls};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, alone, deployment, waiting};

/// `timeoutSeconds` of the manifests, and the time that a busy machine takes besides: less than two time-outs.
const MOST: Duration = Duration::from_millis(2000 + 1500);

/// Creates a Deployment, which must succeed, and measures it.
async fn timed_create(cluster: &Cluster, name: &str) -> Duration {
    let mut object = deployment("failures", name, waiting("example.invalid/app:1"));
    object["spec"]["replicas"] = json!(0);
    let object = serde_json::from_value(object).unwrap();
    let deployments = cluster.api::<Deployment>("failures");
    let started = Instant::now();
    deployments
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    started.elapsed()
}

/// Returns the number of calls that the API server gave up, with the write let through, by its own count.
async fn failed_open(cluster: &Cluster) -> f64 {
    cluster
        .sum_of_metric("apiserver_admission_webhook_fail_open_count{")
        .await
}

/// Returns the client configuration of each of headstart's mutating webhooks, without the CA, which headstart writes
/// itself.
async fn calls(cluster: &Cluster) -> Vec<WebhookClientConfig> {
    let configurations: Api<MutatingWebhookConfiguration> =
        Api::all(cluster.control_plane().client().unwrap());
    let configuration = configurations.get("headstart").await.unwrap();
    let webhooks = configuration.webhooks.unwrap().into_iter();
    let without_ca = |webhook: MutatingWebhook| WebhookClientConfig {
        ca_bundle: None,
        ..webhook.client_config
    };
    webhooks.map(without_ca).collect()
}

/// Has the API server call each of them as `how` says, in place of the manifests.
async fn call(cluster: &Cluster, how: &[WebhookClientConfig]) {
    let operation = |(webhook, how)| {
        let path = format!("/webhooks/{webhook}/clientConfig");
        json!({ "op": "replace", "path": path, "value": how })
    };
    let operations: Value = how.iter().enumerate().map(operation).collect();
    cluster
        .kubectl(&[
            "patch",
            "mutatingwebhookconfiguration",
            "headstart",
            "--type=json",
            "-p",
            &operations.to_string(),
        ])
        .await;
}

/// Has the API server call all of them there.
async fn call_at(cluster: &Cluster, url: &str) {
    let mut how = calls(cluster).await;
    how.fill(WebhookClientConfig {
        url: Some(url.into()),
        ..WebhookClientConfig::default()
    });
    call(cluster, &how).await;
}

/// Creates until the API server calls where it was told to, and then once more.
async fn create_until(cluster: &Cluster, name: &str, reached: impl Fn() -> bool) -> Duration {
    let mut count = 0;
    while !reached() {
        assert!(count < 50, "{name}: the API server does not call there");
        count += 1;
        timed_create(cluster, &format!("{name}-{count}")).await;
    }
    timed_create(cluster, name).await
}

#[tokio::test]
async fn a_webhook_that_is_gone_wrong_or_hangs_never_fails_a_write() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("failures", Some("enabled")).await;
    let well = timed_create(cluster, "well").await;
    let as_installed = calls(cluster).await;

    cluster.stop_headstart().await;
    let before = failed_open(cluster).await;
    let gone = timed_create(cluster, "gone").await;
    assert!(
        failed_open(cluster).await > before,
        "the API server did look for headstart"
    );

    // Accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/mutate", silent.local_addr().unwrap());
    call_at(cluster, &url).await;
    let accepted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let accepting = tokio::spawn({
        let accepted = accepted.clone();
        async move {
            while let Ok((stream, _)) = silent.accept().await {
                accepted.lock().unwrap().push(stream);
            }
        }
    });
    let hanging = create_until(cluster, "hanging", || !accepted.lock().unwrap().is_empty()).await;
    accepting.abort();

    // Answers, with a certificate of a CA that the API server does not know.
    let imposter = Imposter::start().await;
    call_at(cluster, &imposter.url).await;
    let before = failed_open(cluster).await;
    let mut wrong = timed_create(cluster, "wrong").await;
    // The API server takes a moment to call where it is told to.
    for attempt in 0..50 {
        if failed_open(cluster).await > before {
            break;
        }
        wrong = timed_create(cluster, &format!("wrong-{attempt}")).await;
    }
    assert!(
        failed_open(cluster).await > before,
        "the API server did meet the wrong certificate"
    );
    imposter.end().await;

    for (what, took) in [
        ("well", well),
        ("gone", gone),
        ("hanging", hanging),
        ("wrong certificate", wrong),
    ] {
        eprintln!("a write while headstart is {what}: {took:?}");
        assert!(took < MOST, "{what}: {took:?}");
    }
    assert!(
        hanging >= Duration::from_secs(2),
        "the API server did wait for the silent webhook: {hanging:?}"
    );

    call(cluster, &as_installed).await;
    cluster.scale_headstart(2).await;
    cluster
        .headstart
        .wait_until_ready(cluster.control_plane())
        .await
        .unwrap();
    cluster.kubectl(&["delete", "namespace", "failures"]).await;
}

/// headstart's own server with another CA's certificate.
struct Imposter {
    url: String,
    closing: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Imposter {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (now, hour) = (OffsetDateTime::now_utc(), Duration::from_secs(3600));
        let ca = Ca::generate(now, hour).unwrap();
        let leaf = ca.issue(&["127.0.0.1".into()], now, hour).unwrap();
        let resolver = Arc::new(Resolver::default());
        resolver.serve(&leaf).unwrap();
        let tls = resolver.server_config(None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/mutate", listener.local_addr().unwrap());
        let closing = CancellationToken::new();
        let (accepting, _accepts) = oneshot::channel();
        let shutdown = Shutdown {
            draining: CancellationToken::new(),
            closing: closing.clone(),
            deadline: Duration::from_secs(1),
        };
        let serving = tokio::spawn(serve_tls(listener, tls, Router::new(), accepting, shutdown));
        Self {
            url,
            closing,
            serving,
        }
    }

    async fn end(self) {
        self.closing.cancel();
        self.serving.await.unwrap();
    }
}
