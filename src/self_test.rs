//! The self-test. At the start and every hour it asks for actions that headstart's policies have to refuse, and checks the
//! addresses of its webhooks. All requests are dry runs with the own token.

mod permit;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::event_recorder::EventRecorder;
use crate::metrics::Metrics;
use headstart_core::event::EventReason;
use headstart_core::self_test::{Address, Answer, Check, Enforcement};
use headstart_core::workload::Workload;
pub(crate) use permit::Permit;
use requests::{ANSWER_TIMEOUT, Target, ask};

/// The time in which a policy that was just applied comes into force. Before that, no missing policy is reported.
const SETTLING: Duration = Duration::from_secs(15);
/// The duration of the first tests, and the pause between them.
const FIRST: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1));
/// The pause after that, while a policy is not enforced or another fault is found.
const RETRY: Duration = Duration::from_secs(60);
/// The pause while there is no fault; a replica's own share of [`JITTER`] is added.
const EVERY: Duration = Duration::from_secs(3300);
/// The range of the replicas' shares, in seconds, so that two replicas do not ask at the same time.
const JITTER: u64 = 600;

/// The self-test and its settings.
#[derive(Debug)]
pub(crate) struct SelfTest {
    /// headstart's namespace.
    pub namespace: String,
    /// The own pod.
    pub pod: Option<String>,
    /// headstart's Deployment.
    pub deployment: String,
    /// The name of both webhook configurations.
    pub configuration: String,
    /// The address that they have to call.
    pub address: Address,
    /// The name of this replica, unique among the replicas.
    pub identity: String,
    /// Counts the results.
    pub metrics: Arc<Metrics>,
    /// Writes events.
    pub recorder: EventRecorder,
}

impl SelfTest {
    /// Returns the permit that the test grants, if it is `required`, and the test itself, which runs until the process ends.
    pub(crate) fn start(
        self,
        client: Client,
        required: bool,
    ) -> (Permit, impl Future<Output = ()> + Send + use<>) {
        let (state, permit) = watch::channel(Enforcement::Unknown);
        (Permit(required.then_some(permit)), self.run(client, state))
    }

    async fn run(self, client: Client, state: watch::Sender<Enforcement>) {
        let started = Instant::now();
        let mut said = String::new();
        loop {
            let before = *state.borrow();
            let (all, faults) = self.round(&client, before).await;
            let settled = started.elapsed() >= SETTLING;
            if all != Enforcement::NotEnforced || settled {
                state.send_replace(all);
                if before != all && all == Enforcement::Enforced {
                    info!("the API server enforces headstart's policies");
                }
            }
            if settled || faults.is_empty() {
                self.say(&client, &faults, &mut said).await;
            }
            let pause = match (all, started.elapsed() < FIRST.0) {
                (Enforcement::Enforced, _) if faults.is_empty() => EVERY + share(&self.identity),
                (Enforcement::Enforced, _) | (_, false) => RETRY,
                (_, true) => FIRST.1,
            };
            sleep(pause).await;
        }
    }

    /// Tries every policy once. Returns the state of all policies together, and the faults.
    async fn round(&self, client: &Client, before: Enforcement) -> (Enforcement, Vec<Fault>) {
        let mut checks = Vec::new();
        let mut faults = Vec::new();
        for check in Check::ALL {
            let target = Target {
                namespace: &self.namespace,
                pod: self.pod.as_deref(),
                configuration: &self.configuration,
                deployment: &self.deployment,
            };
            let answer = ask(client, target, check).await;
            let enforcement = check.read(&answer);
            if enforcement != Enforcement::Unknown {
                let enforced = enforcement == Enforcement::Enforced;
                self.metrics.policy_enforced(check.policy(), enforced);
            }
            match enforcement {
                Enforcement::Enforced => {}
                Enforcement::NotEnforced => faults.push(Fault::Policy(check.policy())),
                Enforcement::Unknown => faults.push(Fault::Untried(check.policy(), answer)),
            }
            checks.push(enforcement);
        }
        faults.extend(self.addresses(client).await.into_iter().map(Fault::Address));
        (Enforcement::of_all(checks, before), faults)
    }

    /// Returns the faults in the webhooks' addresses. An unreadable configuration is no fault here: without one the webhook is
    /// not called, and the CA injector reports that.
    async fn addresses(&self, client: &Client) -> Vec<String> {
        let only = ListParams::default().fields(&format!("metadata.name={}", self.configuration));
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
        let mut faults = Vec::new();
        let mut look = |name: &str, called: &WebhookClientConfig| {
            faults.extend(self.address.fault(name, called));
        };
        if let Ok(Ok(list)) = timeout(ANSWER_TIMEOUT, mutating.list(&only)).await {
            for webhook in list.items.iter().flat_map(|c| c.webhooks.iter().flatten()) {
                look(&webhook.name, &webhook.client_config);
            }
        }
        if let Ok(Ok(list)) = timeout(ANSWER_TIMEOUT, validating.list(&only)).await {
            for webhook in list.items.iter().flat_map(|c| c.webhooks.iter().flatten()) {
                look(&webhook.name, &webhook.client_config);
            }
        }
        self.metrics.misdirected_webhooks(faults.len());
        faults
    }

    /// Reports the faults when they change: in the log, and in events on the own Deployment.
    async fn say(&self, client: &Client, faults: &[Fault], said: &mut String) {
        let all: Vec<_> = faults.iter().map(Fault::to_string).collect();
        let all = all.join("; ");
        if all == *said {
            return;
        }
        *said = all;
        if faults.is_empty() {
            info!("the self-test finds nothing wrong any more");
            return;
        }
        warn!(
            faults = %said,
            "the self-test failed: apply headstart's manifests again"
        );
        let Some(own) = self.own_deployment(client).await else {
            return;
        };
        for fault in faults {
            let (reason, note) = (fault.reason(), fault.to_string());
            let subject = note.clone();
            self.recorder.publish(&own, reason, &subject, note);
        }
    }

    async fn own_deployment(&self, client: &Client) -> Option<Workload> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &self.namespace);
        let only = ListParams::default().fields(&format!("metadata.name={}", self.deployment));
        let listed = timeout(ANSWER_TIMEOUT, deployments.list(&only)).await;
        let list = listed.ok()?.ok()?;
        Workload::from_deployment(list.items.first()?)
    }
}

/// A fault that the self-test finds.
#[derive(Debug)]
enum Fault {
    Policy(&'static str),
    Untried(&'static str, Answer),
    Address(String),
}

impl Fault {
    fn reason(&self) -> EventReason {
        match self {
            Self::Policy(_) | Self::Untried(..) => EventReason::PolicyNotEnforced,
            Self::Address(_) => EventReason::WebhookMisdirected,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy(policy) => write!(
                f,
                "the API server allows what the ValidatingAdmissionPolicy {policy} forbids"
            ),
            Self::Untried(policy, Answer::Refused { code, message }) => write!(
                f,
                "cannot tell whether the ValidatingAdmissionPolicy {policy} is enforced: something else refused the dry run \
                 ({code}): {message:.200}"
            ),
            Self::Untried(policy, _) => write!(
                f,
                "cannot tell whether the ValidatingAdmissionPolicy {policy} is enforced: the API server does not answer"
            ),
            Self::Address(fault) => f.write_str(fault),
        }
    }
}

/// Returns a replica's share of the jitter.
fn share(identity: &str) -> Duration {
    let sum: u64 = identity.bytes().map(u64::from).sum();
    Duration::from_secs(sum.wrapping_mul(37) % JITTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_do_not_ask_at_the_same_time() {
        assert_ne!(share("headstart-5d4f-abcde"), share("headstart-5d4f-fghij"));
        assert!(share("headstart-5d4f-abcde") < Duration::from_secs(JITTER));
    }
}
