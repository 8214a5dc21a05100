//! The process around the server: its signals, its client and its name.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::{Bytes, HttpBody};
use http::{Request, Response};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{SignalKind, signal};
use tower::timeout::TimeoutLayer;
use tower::{BoxError, Service};

use crate::metrics::Metrics;
use crate::request_metrics::RequestMetricsLayer;
use headstart_core::hash::short_hash;

/// The longest time until an answer begins. The API server ends each request but a watch within 60 s by itself
/// (`--request-timeout`), and begins to answer a watch at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(65);

/// The two signals that ask the process to stop.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn install() -> Result<Self> {
        let on = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Returns a client for the cluster of a kubeconfig, or else of the environment.
pub(crate) async fn client(kubeconfig: Option<PathBuf>) -> Result<Client> {
    Ok(Client::try_from(client_config(kubeconfig).await?)?)
}

/// Returns such a client that counts its requests.
pub(super) async fn client_with_metrics(
    kubeconfig: Option<PathBuf>,
    metrics: &Arc<Metrics>,
) -> Result<Client> {
    let mut config = client_config(kubeconfig).await?;
    // Each caller has its own retries with a limit, which retries in the client would multiply.
    config.default_retry = false;
    Ok(with_layers(ClientBuilder::try_from(config)?, metrics))
}

/// Returns a client whose requests are counted, and fail when the API server says nothing. The watches have no other limit
/// until they are answered: a request that is lost on the way would keep a cache old until the next list.
pub(super) fn with_layers<S, B>(client: ClientBuilder<S>, metrics: &Arc<Metrics>) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    client
        .with_layer(&TimeoutLayer::new(ANSWER_TIMEOUT))
        .with_layer(&RequestMetricsLayer(metrics.clone()))
        .build()
}

async fn client_config(kubeconfig: Option<PathBuf>) -> Result<kube::Config> {
    let named = kubeconfig.map(OsString::from);
    let merged = match named.or_else(|| std::env::var_os("KUBECONFIG")) {
        Some(named) => kubeconfig_of(&named)?,
        None => None,
    };
    match merged {
        Some(merged) => {
            Ok(kube::Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default()).await?)
        }
        None => kube::Config::infer()
            .await
            .context("no cluster: run in a pod, or give --kubeconfig"),
    }
}

/// Reads the file of this name, or else several with a colon between, as KUBECONFIG may name them. As in kubectl, the first
/// that sets a value wins, and missing files are skipped. `None` without any.
fn kubeconfig_of(named: &OsStr) -> Result<Option<Kubeconfig>> {
    let mut paths: Vec<PathBuf> = std::env::split_paths(named)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    let whole = Path::new(named);
    if whole.exists() || paths.len() == 1 {
        return merge(Kubeconfig::default(), whole).map(Some);
    }
    paths.retain(|path| path.exists());
    paths.iter().try_fold(None, |merged, path| {
        merge(merged.unwrap_or_default(), path).map(Some)
    })
}

fn merge(merged: Kubeconfig, path: &Path) -> Result<Kubeconfig> {
    let read = Kubeconfig::read_from(path).and_then(|read| merged.merge(read));
    read.with_context(|| format!("cannot read {}", path.display()))
}

pub(super) fn random_identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "headstart".into());
    let start = Timestamp::now().as_nanosecond().to_string();
    format!(
        "{host}-{}",
        short_hash([start.as_str(), &std::process::id().to_string()])
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use futures::StreamExt;
    use k8s_openapi::api::core::v1::Node;
    use kube::Api;
    use kube::runtime::watcher::{self, watcher};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_not_answered_fails_after_a_minute() {
        let silent = tower::service_fn(|_: Request<Body>| async {
            pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let client = with_layers(ClientBuilder::new(silent, "default"), &Arc::default());
        for config in [
            watcher::Config::default(),
            watcher::Config::default().streaming_lists(),
        ] {
            let started = Instant::now();
            let nodes = watcher(Api::<Node>::all(client.clone()), config);
            let mut failures = std::pin::pin!(nodes.filter(|event| {
                let failed = event.is_err();
                async move { failed }
            }));
            assert!(failures.next().await.is_some());
            assert!(started.elapsed() <= ANSWER_TIMEOUT + Duration::from_secs(1));
        }
    }

    #[test]
    fn several_kubeconfigs_are_merged_and_missing_ones_passed_over() {
        let directory =
            std::env::temp_dir().join(format!("headstart-kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let context = write(
            "context",
            "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]",
        );
        let cluster = write(
            "cluster",
            "current-context: b\nclusters: [{name: c, cluster: {server: \"https://192.0.2.1\"}}]",
        );
        let missing = directory.join("missing");
        let read = |paths: &[&PathBuf]| kubeconfig_of(&std::env::join_paths(paths).unwrap());
        let merged = read(&[&missing, &context, &cluster]).unwrap().unwrap();
        assert!(read(&[&missing, &missing]).unwrap().is_none());
        assert!(kubeconfig_of(OsStr::new("")).unwrap().is_none());
        let one = format!("{:#}", read(&[&missing]).unwrap_err());
        let broken = write("broken", "a: [");
        let error = format!("{:#}", read(&[&context, &broken]).unwrap_err());
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(merged.current_context.as_deref(), Some("a"));
        assert_eq!(merged.clusters.len(), 1);
        assert!(error.contains("broken"), "{error}");
        assert!(one.contains("missing"), "{one}");
    }
}
