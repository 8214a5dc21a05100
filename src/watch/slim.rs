//! Objects as the watches read them: without `metadata.managedFields`.
//!
//! The managed fields name the writer of each field, in a tree about as large as the object. Each event, heartbeats included,
//! would parse them into maps of maps that nothing reads.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus};
use k8s_openapi::api::core::v1::{
    Node, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus, ResourceQuota, ResourceQuotaSpec,
    ResourceQuotaStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::runtime::watcher::Event;
use serde::{Deserialize, Deserializer};

/// An object without its managed fields.
#[derive(Clone, Debug)]
pub(super) struct Slim<K>(K);

#[derive(Deserialize)]
struct SlimParts<Spec, Status> {
    #[serde(default)]
    metadata: SlimMetadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

/// `ObjectMeta` without the managed fields.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimMetadata {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    self_link: Option<String>,
    uid: Option<String>,
}

impl From<SlimMetadata> for ObjectMeta {
    fn from(metadata: SlimMetadata) -> Self {
        let SlimMetadata {
            annotations,
            creation_timestamp,
            deletion_grace_period_seconds,
            deletion_timestamp,
            finalizers,
            generate_name,
            generation,
            labels,
            name,
            namespace,
            owner_references,
            resource_version,
            self_link,
            uid,
        } = metadata;
        Self {
            annotations,
            creation_timestamp,
            deletion_grace_period_seconds,
            deletion_timestamp,
            finalizers,
            generate_name,
            generation,
            labels,
            managed_fields: None,
            name,
            namespace,
            owner_references,
            resource_version,
            self_link,
            uid,
        }
    }
}

macro_rules! slim {
    ($($kind:ident, $spec:ty, $status:ty;)*) => {$(
        impl<'de> Deserialize<'de> for Slim<$kind> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let SlimParts { metadata, spec, status } =
                    SlimParts::<$spec, $status>::deserialize(deserializer)?;
                let metadata = metadata.into();
                Ok(Self($kind { metadata, spec, status }))
            }
        }
    )*};
}

slim! {
    Deployment, DeploymentSpec, DeploymentStatus;
    Node, NodeSpec, NodeStatus;
    Pod, PodSpec, PodStatus;
    ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus;
}

impl<K: Resource> Resource for Slim<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Converts an event to one of the object itself.
pub(super) fn into_object<K>(event: Event<Slim<K>>) -> Event<K> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(Slim(object)) => Event::InitApply(object),
        Event::InitDone => Event::InitDone,
        Event::Apply(Slim(object)) => Event::Apply(object),
        Event::Delete(Slim(object)) => Event::Delete(object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_but_the_managed_fields_is_read_as_it_is() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "annotations": { "a": "b" }, "creationTimestamp": "2026-01-02T03:04:05Z",
                "deletionGracePeriodSeconds": 30, "deletionTimestamp": "2026-01-02T03:04:35Z",
                "finalizers": ["example.com/f"], "generateName": "web-", "generation": 3, "labels": { "c": "d" },
                "managedFields": [{ "manager": "m", "operation": "Update", "fieldsV1": { "f:spec": {} } }],
                "name": "web-1", "namespace": "shop",
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1" }],
                "resourceVersion": "12", "selfLink": "/s", "uid": "2",
            },
            "spec": { "nodeName": "n1", "containers": [{ "name": "app", "image": "app:1" }] },
            "status": { "phase": "Running" },
        });
        let Slim::<Pod>(slim) = serde_json::from_value(object.clone()).unwrap();
        let mut pod: Pod = serde_json::from_value(object).unwrap();
        assert!(pod.metadata.managed_fields.take().is_some());
        assert_eq!(slim, pod);
        // Every field is there to be compared.
        let read = serde_json::to_value(&slim.metadata).unwrap();
        assert_eq!(read.as_object().unwrap().len(), 14);
    }
}
