//! The dry runs: the request of each check, and the reading of its answer.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use headstart_core::self_test::{Answer, Check};

/// The limit for one answer of the API server.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The name of the objects in the dry runs, which are never created.
const NAME: &str = "headstart-self-test";

/// The objects that the dry runs name.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// headstart's namespace.
    pub(super) namespace: &'a str,
    /// The own pod; `None` outside a pod.
    pub(super) pod: Option<&'a str>,
    /// The name of both webhook configurations.
    pub(super) configuration: &'a str,
    /// headstart's Deployment.
    pub(super) deployment: &'a str,
}

/// Sends a request that a policy has to refuse.
pub(super) async fn ask(client: &Client, target: Target<'_>, check: Check) -> Answer {
    let Target {
        namespace,
        pod: own_pod,
        configuration,
        deployment,
    } = target;
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
            // A replica outside a pod has no pod to delete.
            let Some(pod) = own_pod else {
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
            patched(&api, configuration, fail_closed()).await
        }
        Check::PatchValidating => {
            let api = Api::<ValidatingWebhookConfiguration>::all(client.clone());
            patched(&api, configuration, fail_closed()).await
        }
        Check::PatchDeployment => {
            let api = Api::<Deployment>::namespaced(client.clone(), namespace);
            patched(&api, deployment, Patch::Merge(annotate)).await
        }
    }
}

/// Returns a pod that no other admission plugin refuses: it passes the `restricted` level. It lacks a prefetch pod's labels
/// and owner.
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

/// Returns a patch by which a write fails if the first webhook does not answer.
fn fail_closed() -> Patch<Value> {
    let operation = json!([{ "op": "add", "path": "/webhooks/0/failurePolicy", "value": "Fail" }]);
    // Constant JSON like this always parses.
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
    // Constant JSON like this always parses.
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
