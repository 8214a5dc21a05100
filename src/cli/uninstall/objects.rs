//! The kinds of objects that the manifests install, and the requests that find and delete them.

use std::time::Duration;

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PartialObjectMeta};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::timeout;

/// The label of all objects of the manifests.
pub(super) const LABEL: &str = "app.kubernetes.io/name=headstart";
/// The limit for one request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A kind of objects, as requests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The kind in a manifest.
    pub kind: &'static str,
    /// The name of the resource.
    pub resource: &'static str,
}

const fn kind(group: &'static str, kind: &'static str, resource: &'static str) -> Kind {
    Kind {
        group,
        kind,
        resource,
    }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io";

/// The webhook configurations, by which the API server calls headstart. They are deleted first.
pub(super) const WEBHOOKS: [Kind; 2] = [
    kind(
        ADMISSION,
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    ),
    kind(
        ADMISSION,
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
    ),
];

/// headstart's namespace.
pub(super) const NAMESPACE: Kind = kind("", "Namespace", "namespaces");

/// The kinds of objects in the namespace. They are deleted one by one where the namespace is not headstart's own.
pub(super) const IN_NAMESPACE: [Kind; 9] = [
    kind("batch", "CronJob", "cronjobs"),
    kind("apps", "Deployment", "deployments"),
    kind("", "Service", "services"),
    kind("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
    kind("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
    kind("monitoring.coreos.com", "PodMonitor", "podmonitors"),
    kind(RBAC, "RoleBinding", "rolebindings"),
    kind(RBAC, "Role", "roles"),
    kind("", "ServiceAccount", "serviceaccounts"),
];

/// The objects without a label that headstart creates in its namespace.
pub(super) const MADE: [(Kind, &str); 2] = [
    (kind("", "Secret", "secrets"), "headstart-ca"),
    (kind("coordination.k8s.io", "Lease", "leases"), "headstart"),
];

/// The kinds of cluster-scoped objects. They are deleted last: headstart needs its rights until its last replica has ended.
pub(super) const IN_CLUSTER: [Kind; 7] = [
    kind(RBAC, "ClusterRoleBinding", "clusterrolebindings"),
    kind(RBAC, "ClusterRole", "clusterroles"),
    kind(
        ADMISSION,
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
    ),
    kind(
        ADMISSION,
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
    ),
    kind(FLOW_CONTROL, "FlowSchema", "flowschemas"),
    kind(
        FLOW_CONTROL,
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
    ),
    kind("scheduling.k8s.io", "PriorityClass", "priorityclasses"),
];

/// Returns all kinds in the order of their deletion.
pub fn kinds() -> Vec<Kind> {
    [&WEBHOOKS[..], &[NAMESPACE], &IN_NAMESPACE, &IN_CLUSTER].concat()
}

/// A request failed.
#[derive(Debug, Error)]
pub(super) enum ObjectError {
    /// This account lacks the right.
    #[error("missing right to {verb} {resource}: {message}")]
    Forbidden {
        verb: &'static str,
        resource: String,
        message: String,
    },
    /// The API server answered with an error.
    #[error("cannot {verb} {resource}")]
    Api {
        verb: &'static str,
        resource: String,
        #[source]
        source: kube::Error,
    },
    /// The API server did not answer.
    #[error("cannot {verb} {resource}: no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        verb: &'static str,
        resource: String,
    },
}

impl Kind {
    /// Returns the resource as RBAC and kubectl name it.
    pub(super) fn full_name(self) -> String {
        match self.group {
            "" => self.resource.to_owned(),
            group => format!("{}.{group}", self.resource),
        }
    }

    /// Returns an API for the objects of this kind, in a namespace if one is given.
    pub(super) fn api(self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(self.group, "v1", self.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, self.resource);
        match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }

    /// Returns the names of the objects with headstart's label; none if the API server does not know the kind.
    pub(super) async fn list(
        self,
        client: &Client,
        namespace: Option<&str>,
    ) -> Result<Vec<String>, ObjectError> {
        let api = self.api(client, namespace);
        let labelled = ListParams::default().labels(LABEL);
        let listed = self.answer("list", api.list_metadata(&labelled)).await?;
        let names = listed.into_iter().flat_map(|list| list.items);
        Ok(names.filter_map(|object| object.metadata.name).collect())
    }

    /// Returns an object's metadata, or `None` if it does not exist.
    pub(super) async fn get(
        self,
        client: &Client,
        name: &str,
    ) -> Result<Option<PartialObjectMeta<DynamicObject>>, ObjectError> {
        let api = self.api(client, None);
        self.answer("get", api.get_metadata(name)).await
    }

    /// Deletes an object. Returns whether it existed.
    pub(super) async fn delete(
        self,
        client: &Client,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<bool, ObjectError> {
        let api = self.api(client, namespace);
        let background = DeleteParams::background();
        let deleted = self.answer("delete", api.delete(name, &background)).await?;
        Ok(deleted.is_some())
    }

    /// Waits for an answer; `None` if the object does not exist.
    pub(super) async fn answer<T>(
        self,
        verb: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<Option<T>, ObjectError> {
        let resource = self.full_name();
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                Err(ObjectError::Forbidden {
                    verb,
                    resource,
                    message: status.message.clone(),
                })
            }
            Ok(Err(source)) => Err(ObjectError::Api {
                verb,
                resource,
                source,
            }),
            Err(_) => Err(ObjectError::Timeout { verb, resource }),
        }
    }
}
