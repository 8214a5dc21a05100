//! `headstart uninstall`: removes headstart, in the order that leaves no rollout paused. A repeated step changes nothing.

mod objects;
mod prefetch_pods;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

use super::release::release_and_print;
use crate::config::DEFAULT_NAMESPACE;
use crate::release::{Held, list_held};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use objects::{IN_CLUSTER, IN_NAMESPACE, LABEL, MADE, NAMESPACE, ObjectError, WEBHOOKS};
pub use objects::{Kind, kinds};

/// The timeout if the configurations are gone already: `timeoutSeconds` of the manifests.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// The number of rounds in which held Deployments are listed and released. A write that was admitted before may be stored
/// late.
const RELEASE_ROUNDS: usize = 5;
/// The interval at which the deletion of the namespace is checked.
const POLL: Duration = Duration::from_secs(1);

/// The options of `headstart uninstall`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// headstart's namespace, which is deleted with all that is in it if it has the label of the manifests
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,

    /// How long the deletion of the namespace may take
    #[arg(long, default_value = "2m", value_parser = crate::config::duration, value_name = "DURATION")]
    timeout: Duration,

    /// Kubeconfig of the cluster, of an account that may delete what the manifests install [default: as kubectl has it]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Removes headstart, and prints each step.
pub fn run(options: Options) -> Result<()> {
    super::block_on(uninstall(options))
}

async fn uninstall(options: Options) -> Result<()> {
    let client = crate::run::client(options.kubeconfig.clone()).await?;
    // Nothing else is deleted before this has succeeded: held rollouts need headstart.
    delete_webhooks(&client)
        .await
        .context("nothing else is deleted")?;
    release_everything(&client)
        .await
        .context("nothing but the webhook configurations is deleted; run this again")?;
    let mut rest = Rest {
        client,
        failed: 0,
        namespace: options.namespace,
    };
    rest.delete_namespace(options.timeout).await;
    for kind in IN_CLUSTER {
        rest.delete_labelled(kind, None).await;
    }
    rest.delete_prefetch_pods().await;
    if rest.failed > 0 {
        bail!("{} steps failed; run this again", rest.failed);
    }
    println!("headstart is removed");
    Ok(())
}

/// Deletes the webhook configurations, and waits until the last call has ended.
async fn delete_webhooks(client: &Client) -> Result<()> {
    let timeout = webhook_timeout(client).await?;
    for kind in WEBHOOKS {
        let names = kind.list(client, None).await?;
        if names.is_empty() {
            println!("no {} left", kind.full_name());
        }
        for name in names {
            kind.delete(client, None, &name).await?;
            println!("deleted {} {name}", kind.full_name());
        }
    }
    sleep(timeout).await;
    println!("waited {} s for the last call", timeout.as_secs());
    Ok(())
}

/// Returns the longest time for which the API server waits for a webhook.
async fn webhook_timeout(client: &Client) -> Result<Duration, ObjectError> {
    let [mutating, _] = WEBHOOKS;
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let labelled = kube::api::ListParams::default().labels(LABEL);
    let listed = mutating.answer("list", api.list(&labelled)).await?;
    let configurations = listed.into_iter().flat_map(|list| list.items);
    let webhooks = configurations.flat_map(|configuration| configuration.webhooks);
    let seconds = webhooks
        .flatten()
        .filter_map(|webhook| webhook.timeout_seconds);
    let longest = seconds
        .filter_map(|seconds| u64::try_from(seconds).ok())
        .max();
    let longest = longest.map(Duration::from_secs).unwrap_or_default();
    Ok(longest.max(WEBHOOK_TIMEOUT))
}

/// Ends all holds.
async fn release_everything(client: &Client) -> Result<()> {
    for _ in 0..RELEASE_ROUNDS {
        let held = list_held(client, &[]).await?;
        if held.is_empty() {
            println!("no Deployment is held");
            return Ok(());
        }
        let targets = held.into_iter().map(Held::any).collect();
        let failed = release_and_print(client, targets, true).await?;
        if failed > 0 {
            bail!("{failed} Deployments are not resumed");
        }
    }
    bail!("Deployments are held again and again; is another headstart installed?")
}

/// The steps whose order does not matter to a rollout. A failed step does not prevent the others.
struct Rest {
    client: Client,
    failed: usize,
    namespace: String,
}

impl Rest {
    /// Deletes the namespace and waits until it is gone. The last replica uses its rights until then.
    async fn delete_namespace(&mut self, timeout: Duration) {
        let name = self.namespace.clone();
        let found = NAMESPACE.get(&self.client, &name).await;
        let Some(found) = self.report(found) else {
            return;
        };
        let Some(namespace) = found else {
            return println!("no namespace {name} left");
        };
        let labels = namespace.metadata.labels.unwrap_or_default();
        let (key, value) = LABEL.split_once('=').unwrap_or_default();
        if labels.get(key).map(String::as_str) != Some(value) {
            println!(
                "namespace {name} has no label {LABEL}: only headstart's objects in it are deleted"
            );
            return self.empty_namespace(&name).await;
        }
        let deleted = NAMESPACE.delete(&self.client, None, &name).await;
        if self.report(deleted).is_none() {
            return;
        }
        let begun = Instant::now();
        loop {
            let found = NAMESPACE.get(&self.client, &name).await;
            match self.report(found) {
                None => return,
                Some(None) => return println!("deleted namespace {name}"),
                Some(Some(_)) if begun.elapsed() >= timeout => {
                    eprintln!(
                        "headstart: namespace {name} is still being deleted; `kubectl get namespace {name} -o yaml` says why"
                    );
                    self.failed += 1;
                    return;
                }
                Some(Some(_)) => sleep(POLL).await,
            }
        }
    }

    async fn empty_namespace(&mut self, name: &str) {
        for kind in IN_NAMESPACE {
            self.delete_labelled(kind, Some(name)).await;
        }
        for (kind, object) in MADE {
            let deleted = kind.delete(&self.client, Some(name), object).await;
            if self.report(deleted) == Some(true) {
                println!("deleted {} {object}", kind.full_name());
            }
        }
    }

    async fn delete_labelled(&mut self, kind: Kind, namespace: Option<&str>) {
        let names = kind.list(&self.client, namespace).await;
        let Some(names) = self.report(names) else {
            return;
        };
        if names.is_empty() {
            println!("no {} left", kind.full_name());
        }
        for name in names {
            let deleted = kind.delete(&self.client, namespace, &name).await;
            if self.report(deleted).is_some() {
                println!("deleted {} {name}", kind.full_name());
            }
        }
    }

    async fn delete_prefetch_pods(&mut self) {
        let deleted = prefetch_pods::delete_all(&self.client).await;
        if let Some(count) = self.report(deleted) {
            println!("deleted {count} prefetch pods");
        }
    }

    /// Returns the value, or prints and counts a failure.
    fn report<T>(&mut self, result: Result<T, ObjectError>) -> Option<T> {
        let error = match result {
            Ok(done) => return Some(done),
            Err(error) => anyhow::Error::from(error),
        };
        eprintln!("headstart: {error:#}");
        self.failed += 1;
        None
    }
}
