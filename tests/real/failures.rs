//! headstart is gone, hangs, or is not who it should be: users' writes go through, in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use headstart::server::{Shutdown, serve_tls};
use headstart::tls::{Authority, Resolver};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, cluster, deployment, until, waiting};

/// `timeoutSeconds` of the manifests, and what kubectl and a busy machine take besides.
const MOST: Duration = Duration::from_secs(2 + 3);

/// Creates a Deployment, which must succeed, and measures it.
async fn timed_create(cluster: &Cluster, name: &str) -> Duration {
    let mut object = deployment("failures", name, waiting("example.invalid/app:1"));
    object["spec"]["replicas"] = json!(0);
    let started = Instant::now();
    cluster
        .control_plane()
        .kubectl_with_input(&["create", "-f", "-"], &object.to_string())
        .await
        .unwrap();
    started.elapsed()
}

/// How many calls the API server gave up, and let the write through, by its own count.
async fn failed_open(cluster: &Cluster) -> f64 {
    cluster
        .sum_of_metric("apiserver_admission_webhook_fail_open_count{")
        .await
}

async fn call(cluster: &Cluster, client_config: Value) {
    let operations: Vec<Value> = (0..2)
        .map(|webhook| json!({ "op": "replace", "path": format!("/webhooks/{webhook}/clientConfig"), "value": client_config }))
        .collect();
    let patch = Value::from(operations).to_string();
    cluster
        .kubectl(&[
            "patch",
            "mutatingwebhookconfiguration",
            "headstart",
            "--type=json",
            "-p",
            &patch,
        ])
        .await;
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
    let Some(turn) = cluster().await else { return };
    let cluster = turn.as_ref().unwrap();
    cluster.namespace("failures", Some("enabled")).await;
    let well = timed_create(cluster, "well").await;

    cluster
        .kubectl(&[
            "scale",
            "-n",
            "headstart",
            "deployment/headstart",
            "--replicas=0",
        ])
        .await;
    until("headstart to be gone", async || {
        cluster
            .kubectl(&["get", "pods", "-n", "headstart", "-o", "name"])
            .await
            .is_empty()
    })
    .await;
    let before = failed_open(cluster).await;
    let gone = timed_create(cluster, "gone").await;
    assert!(
        failed_open(cluster).await > before,
        "the API server did look for headstart"
    );

    // Accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/mutate", silent.local_addr().unwrap());
    call(cluster, json!({ "url": url })).await;
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

    // Answers, with a certificate of an authority that nobody told the API server of.
    let imposter = Imposter::start().await;
    call(cluster, json!({ "url": imposter.url })).await;
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

    // What the README says: applying the manifests again repairs everything.
    let service =
        json!({ "service": { "namespace": "headstart", "name": "headstart", "path": "/mutate" } });
    call(cluster, service).await;
    cluster
        .kubectl(&[
            "scale",
            "-n",
            "headstart",
            "deployment/headstart",
            "--replicas=2",
        ])
        .await;
    cluster
        .headstart
        .wait_until_ready(cluster.control_plane())
        .await
        .unwrap();
    cluster.kubectl(&["delete", "namespace", "failures"]).await;
}

/// headstart's own server with another authority's certificate.
struct Imposter {
    url: String,
    closing: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Imposter {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (now, hour) = (OffsetDateTime::now_utc(), Duration::from_secs(3600));
        let authority = Authority::generate(now, hour).unwrap();
        let leaf = authority.issue(&["127.0.0.1".into()], now, hour).unwrap();
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
