//! What the process around the server needs: signals, a client, its own name.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{SignalKind, signal};

use crate::api_calls::CountCalls;
use crate::domain::workload::short_hash;
use crate::metrics::Metrics;

/// The two signals that ask for the end.
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

/// A client of the cluster that a kubeconfig names, or else the environment.
pub(crate) async fn client(kubeconfig: Option<PathBuf>) -> Result<Client> {
    Ok(Client::try_from(client_config(kubeconfig).await?)?)
}

/// The same, with its requests counted.
pub(super) async fn counted_client(
    kubeconfig: Option<PathBuf>,
    metrics: &Arc<Metrics>,
) -> Result<Client> {
    let client = ClientBuilder::try_from(client_config(kubeconfig).await?)?;
    Ok(client.with_layer(&CountCalls(metrics.clone())).build())
}

async fn client_config(kubeconfig: Option<PathBuf>) -> Result<kube::Config> {
    match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok(kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
        }
        None => kube::Config::infer()
            .await
            .context("no cluster: run in a pod, or give --kubeconfig"),
    }
}

pub(super) fn random_identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "headstart".into());
    let start = Timestamp::now().as_nanosecond().to_string();
    format!(
        "{host}-{}",
        short_hash([start.as_str(), &std::process::id().to_string()])
    )
}
