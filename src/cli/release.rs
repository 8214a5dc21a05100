//! `headstart release`: ends holds by hand or by a timer, by the same write that the leader makes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;

use super::UsageError;
use crate::config::duration;
use crate::release::{Held, Target, list_held, release_all};
use headstart_core::api::well_known::{HELD_LABEL, HELD_VALUE};
use headstart_core::controller::command::ResumeOutcome;
use headstart_core::hold::is_overdue;
use headstart_core::workload::DeploymentKey;

/// The options of `headstart release`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The Deployment whose rollout is to go on
    #[arg(
        required_unless_present_any = ["all", "overdue"],
        conflicts_with_all = ["all", "overdue"]
    )]
    name: Option<String>,

    /// Every Deployment that is held, in all namespaces
    #[arg(long, conflicts_with = "overdue")]
    all: bool,

    /// Every Deployment whose hold should be over, in all namespaces: for a timer that acts where no replica of headstart does
    #[arg(long)]
    overdue: bool,

    /// With --overdue: how long a hold should be over, so that the leader ends it first
    #[arg(long, conflicts_with_all = ["name", "all"], default_value = "1m", value_parser = duration, value_name = "DURATION")]
    grace: Duration,

    /// With --overdue: how long a rollout is held at most, as `headstart serve` has it
    #[arg(long, env = "HEADSTART_MAX_HOLD", default_value = "30m", value_parser = duration, value_name = "DURATION")]
    max_hold: Duration,

    /// Namespace of the Deployment [default: that of the kubeconfig's context]
    #[arg(short, long, conflicts_with_all = ["all", "overdue"])]
    namespace: Option<String>,

    /// Kubeconfig of the cluster [default: as kubectl has it, or the pod's service account]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Resumes the rollouts and prints each result.
pub fn run(options: Options) -> Result<()> {
    super::block_on(release(options))
}

async fn release(options: Options) -> Result<()> {
    let client = crate::run::client(options.kubeconfig.clone()).await?;
    let (targets, none) = match &options.name {
        Some(name) => (vec![named(&options, name, &client)?], ""),
        None if options.overdue => (overdue(&options, &client).await?, "no hold is overdue"),
        None => {
            let held = list_held(&client, &[]).await?.into_iter();
            (held.map(Held::any).collect(), "no Deployment is held")
        }
    };
    if targets.is_empty() {
        println!("{none}");
    }
    // If several were listed, one that is no longer held has ended meanwhile.
    let failed = release_and_print(&client, targets, options.name.is_none()).await?;
    if failed > 0 {
        bail!("{failed} not resumed");
    }
    Ok(())
}

/// Ends the holds, and prints the result of each. Returns the number of holds that could not be ended.
///
/// # Errors
/// If a Deployment is not held, unless `may_be_gone`.
pub(super) async fn release_and_print(
    client: &Client,
    targets: Vec<Target>,
    may_be_gone: bool,
) -> Result<usize> {
    let (mut failed, mut gone) = (0, None);
    release_all(client, targets, |key, resumed| match resumed {
        Ok(ResumeOutcome::Resumed) => println!("{key} resumed"),
        Ok(ResumeOutcome::AlreadyResumed) => println!("{key} was resumed already"),
        Ok(ResumeOutcome::LeftPaused) => {
            println!(
                "{key} stays paused, because its manifest says paused: true, or another client paused it"
            );
        }
        Ok(_) => gone = Some(key.clone()),
        Err(reason) => {
            eprintln!("headstart: cannot resume {key}: {reason}");
            failed += 1;
        }
    })
    .await;
    if let Some(key) = gone.filter(|_| !may_be_gone) {
        bail!(
            "Deployment {key} is not held; to see what is: kubectl get deployments -A -l {HELD_LABEL}={HELD_VALUE}"
        );
    }
    Ok(failed)
}

fn named(options: &Options, name: &str, client: &Client) -> Result<Target, UsageError> {
    let namespace = options.namespace.as_deref();
    let key = DeploymentKey {
        namespace: namespace
            .unwrap_or_else(|| client.default_namespace())
            .to_owned(),
        name: deployment_name(name)?.to_owned(),
    };
    Ok(Target { key, hold: None })
}

/// Returns the holds that the leader should have ended.
async fn overdue(options: &Options, client: &Client) -> Result<Vec<Target>> {
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    let (max, grace) = (signed(options.max_hold), signed(options.grace));
    let now = Timestamp::now();
    let held = list_held(client, &[]).await?.into_iter();
    let overdue = held.filter(|held| is_overdue(held.mark, max, grace, now));
    Ok(overdue.map(Held::only_this).collect())
}

/// Accepts the forms that kubectl accepts: `web`, `deployment/web`, `deploy/web`.
fn deployment_name(given: &str) -> Result<&str, UsageError> {
    match given.split_once('/') {
        None => Ok(given),
        Some(("deployment" | "deployments" | "deploy" | "deployment.apps", name)) => Ok(name),
        Some((kind, _)) => Err(UsageError(format!(
            "only Deployments are held, and {kind:?} is none; use deployment/NAME"
        ))),
    }
}
