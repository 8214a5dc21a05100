//! `headstart release`: ends holds by hand, by the same write that the leader makes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::timeout;

use super::UsageError;
use crate::driver::resume::release as end_hold;
use headstart_core::api::well_known::{HELD_LABEL, HELD_VALUE};
use headstart_core::controller::command::ResumeOutcome;
use headstart_core::workload::DeploymentKey;

/// How long the cluster may take to list what is held.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// Deployments that are resumed at once.
const AT_ONCE: usize = 8;

/// What `headstart release` is told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The Deployment whose rollout is to go on
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,

    /// Every Deployment that is held, in all namespaces
    #[arg(long)]
    all: bool,

    /// Namespace of the Deployment [default: that of the kubeconfig's context]
    #[arg(short, long, conflicts_with = "all")]
    namespace: Option<String>,

    /// Kubeconfig of the cluster [default: as kubectl has it, or the pod's service account]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Resumes and says so.
pub fn run(options: Options) -> Result<()> {
    // A second time it is there already, and as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(release(options))
}

async fn release(options: Options) -> Result<()> {
    let Options {
        name,
        all,
        namespace,
        kubeconfig,
    } = options;
    let client = crate::run::client(kubeconfig).await?;
    let keys = match name {
        Some(name) => vec![DeploymentKey {
            namespace: namespace.unwrap_or_else(|| client.default_namespace().to_owned()),
            name: deployment_name(&name)?.to_owned(),
        }],
        None => held(&client).await?,
    };
    if keys.is_empty() {
        println!("no Deployment is held");
    }
    let ended: Vec<(DeploymentKey, Result<ResumeOutcome, String>)> = futures::stream::iter(keys)
        .map(async |key| {
            let resumed = end_hold(&client, &key).await;
            (key, resumed)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut failed = 0;
    for (key, resumed) in ended {
        match resumed {
            Ok(ResumeOutcome::Resumed) => println!("{key} resumed"),
            Ok(ResumeOutcome::AlreadyResumed) => println!("{key} was resumed already"),
            Ok(ResumeOutcome::LeftPaused) => {
                println!(
                    "{key} stays paused, because its manifest says paused: true, or another client paused it"
                );
            }
            // Of all, it has ended meanwhile.
            Ok(_) if all => {}
            Ok(_) => bail!(
                "Deployment {key} is not held; to see what is: kubectl get deployments -A -l {HELD_LABEL}={HELD_VALUE}"
            ),
            Err(reason) => {
                eprintln!("headstart: cannot resume {key}: {reason}");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} not resumed");
    }
    Ok(())
}

/// Accepts what kubectl does: `web`, `deployment/web`, `deploy/web`.
fn deployment_name(given: &str) -> Result<&str, UsageError> {
    match given.split_once('/') {
        None => Ok(given),
        Some(("deployment" | "deployments" | "deploy" | "deployment.apps", name)) => Ok(name),
        Some((kind, _)) => Err(UsageError(format!(
            "only Deployments are held, and {kind:?} is none; use deployment/NAME"
        ))),
    }
}

async fn held(client: &Client) -> Result<Vec<DeploymentKey>> {
    let api: Api<Deployment> = Api::all(client.clone());
    let marked = ListParams::default().labels(&format!("{HELD_LABEL}={HELD_VALUE}"));
    let list = timeout(LIST_TIMEOUT, api.list_metadata(&marked));
    let list = list.await.context("listing Deployments timed out")??;
    let keys = list.items.into_iter().filter_map(|held| {
        Some(DeploymentKey {
            namespace: held.metadata.namespace?,
            name: held.metadata.name?,
        })
    });
    Ok(keys.collect())
}
