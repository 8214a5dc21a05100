//! A Deployment in a review.
//!
//! It is read in one pass into types that are small whatever was sent: three bytes of JSON can be an empty container,
//! which as Kubernetes' own type takes a kilobyte, so 7 MiB would become gigabytes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::patch::Target;
use super::small::{Bounded, Own, Text};
use crate::domain::workload::{Asked, Key, Read, Workload};

/// The longest names that an API server gives; a forged review may hold megabytes.
const MAX_NAME: usize = 253;
const MAX_NAMESPACE: usize = 63;

/// A Deployment, reduced to what is decided by.
#[derive(Deserialize)]
pub(super) struct Object<'a> {
    metadata: Option<Metadata>,
    #[serde(borrow)]
    spec: Option<Spec<'a>>,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    generation: Option<i64>,
    labels: Option<Own>,
    annotations: Option<Own>,
}

#[derive(Deserialize)]
struct Spec<'a> {
    paused: Option<bool>,
    replicas: Option<i32>,
    #[serde(borrow)]
    template: Option<Template<'a>>,
}

#[derive(Deserialize)]
struct Template<'a> {
    #[serde(borrow)]
    spec: Option<Pod<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod<'a> {
    #[serde(borrow)]
    init_containers: Option<Bounded<Named<'a>>>,
    #[serde(borrow)]
    containers: Option<Bounded<Named<'a>>>,
    #[serde(borrow)]
    volumes: Option<Bounded<Mounted<'a>>>,
    // Where its pods may land, and with whose credentials: only compared, so not read.
    #[serde(borrow)]
    node_name: Option<&'a RawValue>,
    #[serde(borrow)]
    node_selector: Option<&'a RawValue>,
    #[serde(borrow)]
    affinity: Option<&'a RawValue>,
    #[serde(borrow)]
    tolerations: Option<&'a RawValue>,
    #[serde(borrow)]
    image_pull_secrets: Option<&'a RawValue>,
    #[serde(borrow)]
    service_account_name: Option<&'a RawValue>,
    #[serde(borrow)]
    runtime_class_name: Option<&'a RawValue>,
}

/// How far the rollout before this write is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    observed_generation: Option<i64>,
    replicas: Option<i32>,
    updated_replicas: Option<i32>,
    available_replicas: Option<i32>,
    unavailable_replicas: Option<i32>,
    conditions: Option<Bounded<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named<'a> {
    #[serde(borrow)]
    image: Option<Text<'a>>,
    #[serde(borrow)]
    image_pull_policy: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Mounted<'a> {
    #[serde(borrow)]
    image: Option<Source<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    #[serde(borrow)]
    reference: Option<Text<'a>>,
    #[serde(borrow)]
    pull_policy: Option<Text<'a>>,
}

/// One state of a Deployment.
pub(super) struct Subject<'a> {
    /// Its namespace.
    pub(super) namespace: String,
    name: Option<String>,
    generation: Option<i64>,
    /// What a patch would meet, of headstart's own.
    pub(super) target: Target,
    replicas: Option<i32>,
    pod: Option<Pod<'a>>,
    status: Option<Status>,
}

impl<'a> Object<'a> {
    /// The review's own name and namespace are the ones the API server vouches for.
    pub(super) fn into_subject(
        self,
        name: Option<&str>,
        namespace: Option<&str>,
    ) -> Option<Subject<'a>> {
        let metadata = self.metadata?;
        let Spec {
            paused,
            replicas,
            template,
        } = self.spec?;
        let given = |given: Option<&str>, own: Option<String>, longest: usize| {
            let given = given.filter(|given| !given.is_empty()).map(str::to_owned);
            given
                .or(own)
                .filter(|name| !name.is_empty() && name.len() <= longest)
        };
        Some(Subject {
            namespace: given(namespace, metadata.namespace, MAX_NAMESPACE)?,
            name: given(name, metadata.name, MAX_NAME),
            generation: metadata.generation,
            target: Target {
                labels: metadata.labels.map(|own| own.0),
                annotations: metadata.annotations.map(|own| own.0),
                paused,
            },
            replicas,
            pod: template.and_then(|template| template.spec),
            status: self.status,
        })
    }
}

impl Subject<'_> {
    /// headstart's labels.
    pub(super) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.target.labels.as_ref()
    }

    /// headstart's annotations.
    pub(super) fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.target.annotations.as_ref()
    }

    /// Whether the pods of both may land on the same nodes and pull with the same credentials, as far as can be told
    /// without reading how that is said.
    pub(super) fn lands_like(&self, other: &Self) -> bool {
        let Some((a, b)) = self.pod.as_ref().zip(other.pod.as_ref()) else {
            return false;
        };
        fn said<'a>(pod: &Pod<'a>) -> [Option<&'a str>; 7] {
            [
                pod.node_name,
                pod.node_selector,
                pod.affinity,
                pod.tolerations,
                pod.image_pull_secrets,
                pod.service_account_name,
                pod.runtime_class_name,
            ]
            .map(|raw| raw.map(RawValue::get))
        }
        said(a) == said(b)
    }

    /// What a prefetch would see in it; its name is empty if `generateName` gives it later. `None` without a template,
    /// and with more containers than could run.
    pub(super) fn into_workload(self) -> Option<Workload> {
        let pod = self.pod?;
        let lists = [&pod.init_containers, &pod.containers];
        if lists.into_iter().flatten().any(|list| list.cut)
            || pod.volumes.as_ref().is_some_and(|list| list.cut)
        {
            return None;
        }
        fn items<T>(list: Option<&Bounded<T>>) -> &[T] {
            list.map_or(&[], |list| list.items.as_slice())
        }
        fn asked<'a>(image: Option<&'a Text<'_>>, policy: Option<&'a Text<'_>>) -> Asked<'a> {
            Asked::new(image.map(Text::as_str), policy.map(Text::as_str))
        }
        let containers = lists.into_iter().flat_map(|list| items(list.as_ref()));
        let of_containers =
            containers.map(|named| asked(named.image.as_ref(), named.image_pull_policy.as_ref()));
        let mounted = items(pod.volumes.as_ref()).iter();
        let of_volumes = mounted.filter_map(|mounted| {
            let source = mounted.image.as_ref()?;
            Some(asked(
                source.reference.as_ref(),
                source.pull_policy.as_ref(),
            ))
        });
        let status = self.status.map(DeploymentStatus::from);
        let read = Read {
            key: Key {
                namespace: self.namespace,
                name: self.name.unwrap_or_default(),
            },
            generation: self.generation,
            labels: self.target.labels.as_ref(),
            annotations: self.target.annotations.as_ref(),
            paused: self.target.paused,
            replicas: self.replicas,
            status: status.as_ref(),
        };
        Some(Workload::reviewed(read, of_containers.chain(of_volumes)))
    }
}

impl From<Status> for DeploymentStatus {
    fn from(status: Status) -> Self {
        let conditions = status.conditions.map(|list| list.items);
        let condition = |condition: Condition| DeploymentCondition {
            type_: condition.type_.unwrap_or_default(),
            reason: condition.reason,
            ..DeploymentCondition::default()
        };
        Self {
            observed_generation: status.observed_generation,
            replicas: status.replicas,
            updated_replicas: status.updated_replicas,
            available_replicas: status.available_replicas,
            unavailable_replicas: status.unavailable_replicas,
            conditions: conditions.map(|list| list.into_iter().map(condition).collect()),
            ..Self::default()
        }
    }
}
