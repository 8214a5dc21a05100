//! The self-test: asks, at the start and every hour, for what headstart's policies have to refuse, and looks where its
//! webhooks are called. All of it is dry runs with the own token.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::domain::self_test::{Address, Answer, Check, Enforcement};
use crate::domain::workload::Workload;
use crate::metrics::Metrics;
use crate::report::{Reason, Reporter};

/// How long the API server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a policy that was just applied may take to be in force. Until then it is not missed.
const SETTLING: Duration = Duration::from_secs(15);
/// How long, and how often, the first test is repeated.
const FIRST: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1));
/// How often it is repeated after that, while a policy is not enforced.
const RETRY: Duration = Duration::from_secs(60);
/// How often it is repeated where all is well; a replica's own share of [`JITTER`] is added.
const EVERY: Duration = Duration::from_secs(3300);
/// Two replicas do not ask at the same time.
const JITTER: u64 = 600;
/// The name of everything that is asked for and never made.
const NAME: &str = "headstart-self-test";

/// Whether pods may be created and rollouts held.
#[derive(Clone, Debug)]
pub struct Permit(Option<watch::Receiver<Enforcement>>);

impl Default for Permit {
    /// Always.
    fn default() -> Self {
        Self(None)
    }
}

impl Permit {
    /// Returns whether it is known now that every policy is enforced, or that none is required.
    pub fn is_granted(&self) -> bool {
        let now = |state: &watch::Receiver<Enforcement>| *state.borrow() == Enforcement::Enforced;
        self.0.as_ref().is_none_or(now)
    }

    /// Waits until the self-test has an answer; says why where the answer is no.
    pub async fn granted(&self) -> Result<(), &'static str> {
        let Some(mut state) = self.0.clone() else {
            return Ok(());
        };
        let known = state.wait_for(|state| *state != Enforcement::Unknown).await;
        match known.as_deref() {
            Ok(Enforcement::Enforced) => Ok(()),
            _ => Err(
                "headstart's ValidatingAdmissionPolicies are not enforced (--require-policies); apply its manifests again",
            ),
        }
    }
}

/// What the self-test is told.
#[derive(Debug)]
pub struct SelfTest {
    /// headstart's namespace.
    pub namespace: String,
    /// The own pod.
    pub pod: Option<String>,
    /// headstart's Deployment.
    pub deployment: String,
    /// The name of both webhook configurations.
    pub configuration: String,
    /// Where they have to call.
    pub address: Address,
    /// Who this is, among the replicas.
    pub identity: String,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Writes events.
    pub reporter: Reporter,
}

impl SelfTest {
    /// Returns the permit that the test grants, if it is `required`, and the test itself, which runs until the process ends.
    pub fn start(
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

    /// Asks once for everything. Returns what is known of all policies, and what is wrong.
    async fn round(&self, client: &Client, before: Enforcement) -> (Enforcement, Vec<Fault>) {
        let mut checks = Vec::new();
        let mut faults = Vec::new();
        for check in Check::ALL {
            let answer = self.ask(client, check).await;
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

    async fn ask(&self, client: &Client, check: Check) -> Answer {
        let namespace = &self.namespace;
        let annotate = json!({ "metadata": { "annotations": { "headstart.dev/self-test": "" } } });
        match check {
            Check::CreatePod => create::<Pod>(client, namespace, pod()).await,
            Check::CreateSecret => {
                create::<Secret>(client, namespace, json!({ "metadata": { "name": NAME } })).await
            }
            Check::CreateLease => {
                create::<Lease>(client, namespace, json!({ "metadata": { "name": NAME } })).await
            }
            Check::DeletePod => {
                // A replica that is no pod has none to lose.
                let Some(pod) = self.pod.as_deref() else {
                    return Answer::Refused {
                        code: 404,
                        message: String::new(),
                    };
                };
                let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
                let params = DeleteParams {
                    dry_run: true,
                    ..DeleteParams::default()
                };
                answer(pods.delete(pod, &params)).await
            }
            Check::PatchMutating => {
                let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
                patched(&api, &self.configuration, fail_closed()).await
            }
            Check::PatchValidating => {
                let api = Api::<ValidatingWebhookConfiguration>::all(client.clone());
                patched(&api, &self.configuration, fail_closed()).await
            }
            Check::PatchDeployment => {
                let api = Api::<Deployment>::namespaced(client.clone(), namespace);
                patched(&api, &self.deployment, Patch::Merge(annotate)).await
            }
        }
    }

    /// What is wrong with the addresses that the webhooks are called at. What cannot be read is not wrong: without
    /// configurations nobody calls, and the registration says so.
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

    /// Says what is wrong, once for as long as it stays the same: in the log, and in an event on the own Deployment.
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
            self.reporter.report(&own, reason, &subject, note);
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

/// What the self-test finds wrong.
#[derive(Debug)]
enum Fault {
    Policy(&'static str),
    Untried(&'static str, Answer),
    Address(String),
}

impl Fault {
    fn reason(&self) -> Reason {
        match self {
            Self::Policy(_) | Self::Untried(..) => Reason::PolicyNotEnforced,
            Self::Address(_) => Reason::WebhookMisdirected,
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

/// A replica's part of the jitter.
fn share(identity: &str) -> Duration {
    let sum: u64 = identity.bytes().map(u64::from).sum();
    Duration::from_secs(sum.wrapping_mul(37) % JITTER)
}

/// A pod that no other admission plugin minds: it passes the `restricted` level. It lacks a prefetch pod's labels and owner.
fn pod() -> Value {
    json!({
        "metadata": { "name": NAME },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "noop", "image": NAME, "command": ["/headstart", "noop"],
                "resources": { "requests": { "cpu": "1m", "memory": "1Mi" }, "limits": { "cpu": "100m", "memory": "32Mi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
                },
            }],
        },
    })
}

/// Has the first webhook fail writes when it does not answer.
fn fail_closed() -> Patch<Value> {
    let operation = json!([{ "op": "add", "path": "/webhooks/0/failurePolicy", "value": "Fail" }]);
    // What is built here from constants always reads back.
    Patch::Json(serde_json::from_value(operation).unwrap_or_default())
}

async fn create<K>(client: &Client, namespace: &str, object: Value) -> Answer
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + DeserializeOwned,
{
    // What is built here from constants always reads back.
    let Ok(object) = serde_json::from_value::<K>(object) else {
        return Answer::Silent;
    };
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    answer(api.create(&params, &object)).await
}

async fn patched<K>(api: &Api<K>, name: &str, patch: Patch<Value>) -> Answer
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    answer(api.patch(name, &params, &patch)).await
}

async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Answer {
    match timeout(ANSWER_TIMEOUT, request).await {
        Ok(Ok(_)) => Answer::Accepted,
        Ok(Err(kube::Error::Api(status))) => Answer::Refused {
            code: status.code,
            message: status.message.clone(),
        },
        Ok(Err(_)) | Err(_) => Answer::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_permitted_before_and_without_an_answer_that_all_is_enforced() {
        assert!(Permit::default().is_granted());
        let (state, receiver) = watch::channel(Enforcement::Unknown);
        let permit = Permit(Some(receiver));
        assert!(!permit.is_granted());
        let waits = is_pending(permit.granted()).await;
        assert!(waits, "creates wait for the first answer");
        state.send_replace(Enforcement::NotEnforced);
        assert!(!permit.is_granted());
        assert!(
            permit
                .granted()
                .await
                .is_err_and(|why| why.contains("--require-policies"))
        );
        state.send_replace(Enforcement::Enforced);
        assert!(permit.is_granted());
        assert_eq!(permit.granted().await, Ok(()));
    }

    /// Returns whether a future is not done when it is first asked.
    async fn is_pending(future: impl Future) -> bool {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
        })
        .await
    }

    #[test]
    fn replicas_do_not_ask_at_the_same_time() {
        assert_ne!(share("headstart-5d4f-abcde"), share("headstart-5d4f-fghij"));
        assert!(share("headstart-5d4f-abcde") < Duration::from_secs(JITTER));
    }
}
