//! What is read of an AdmissionReview: as little as decides, because anyone can send one.
//!
//! A Deployment is read in one pass into types that are small whatever was sent: three bytes of JSON can be an empty
//! container, which as Kubernetes' own type takes a kilobyte, so 7 MiB would become gigabytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus,
};
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, PodSpec, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::patch::Target;
use super::small::{Bounded, Own};
use crate::domain::workload::Workload;

/// The only version of the review that is spoken; the API server has had it since 1.16.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";
/// Its kind.
pub(super) const KIND: &str = "AdmissionReview";

/// The longest names that an API server gives; a forged review may hold megabytes.
const MAX_NAME: usize = 253;
const MAX_NAMESPACE: usize = 63;
/// An API server's are UUIDs.
pub(super) const MAX_UID: usize = 128;

/// A review, with objects as far as they can be read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub(super) struct Review<'a, O = Object<'a>> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) request: Request<'a, O>,
}

/// The request in it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub(super) struct Request<'a, O = Object<'a>> {
    pub(super) uid: String,
    #[serde(borrow)]
    kind: Kind<'a>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    name: Option<String>,
    namespace: Option<String>,
    dry_run: Option<bool>,
    #[serde(default = "none")]
    object: Option<O>,
    #[serde(default = "none")]
    old_object: Option<O>,
}

fn none<O>() -> Option<O> {
    None
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

/// A Deployment, reduced to what is decided by.
#[derive(Deserialize)]
pub(super) struct Object<'a> {
    metadata: Option<Metadata>,
    #[serde(borrow)]
    spec: Option<Spec<'a>>,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
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
    init_containers: Option<Bounded<Named>>,
    containers: Option<Bounded<Named>>,
    volumes: Option<Bounded<Mounted>>,
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
#[derive(Default, Deserialize)]
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
struct Named {
    image: Option<String>,
    image_pull_policy: Option<String>,
}

#[derive(Deserialize)]
struct Mounted {
    image: Option<Source>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    reference: Option<String>,
    pull_policy: Option<String>,
}

/// What a write does to a Deployment.
pub(super) struct Write<'a> {
    /// Identifies the review.
    pub(super) uid: String,
    /// Whether it is never stored.
    pub(super) dry_run: bool,
    /// As it is to be.
    pub(super) new: Subject<'a>,
    /// As it was, of an update.
    pub(super) old: Option<Subject<'a>>,
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
    status: Status,
}

/// A review that was understood.
pub(super) enum Parsed<'a> {
    /// A write of a Deployment.
    Deployment(Box<Write<'a>>),
    /// Something else, to be allowed.
    Other {
        /// Identifies the review.
        uid: String,
    },
}

/// Reads a review; an error says in words what is wrong with it.
pub(super) fn parse(body: &[u8]) -> Result<Parsed<'_>, String> {
    match serde_json::from_slice::<Review<'_>>(body) {
        Ok(review) => {
            check(&review)?;
            Ok(review.request.into_parsed())
        }
        // A review of an object that is no Deployment is still a review, and is allowed.
        Err(_) => {
            let review: Review<'_, IgnoredAny> = serde_json::from_slice(body)
                .map_err(|error| format!("the body is not an {KIND}: {error}"))?;
            check(&review)?;
            Ok(Parsed::Other {
                uid: review.request.uid,
            })
        }
    }
}

fn check<O>(review: &Review<'_, O>) -> Result<(), String> {
    if review.api_version != API_VERSION || review.kind != KIND {
        let shown = |text: &str| text.chars().take(64).collect::<String>();
        return Err(format!(
            "want {API_VERSION} {KIND}, got {} {}",
            shown(&review.api_version),
            shown(&review.kind)
        ));
    }
    match review.request.uid.len() {
        0 => Err("request.uid is empty".into()),
        1..=MAX_UID => Ok(()),
        _ => Err(format!("request.uid is longer than {MAX_UID} bytes")),
    }
}

impl<'a> Request<'a> {
    fn into_parsed(self) -> Parsed<'a> {
        let Self {
            uid,
            kind,
            operation,
            name,
            namespace,
            dry_run,
            object,
            old_object,
        } = self;
        if (kind.group.as_ref(), kind.kind.as_ref()) != ("apps", "Deployment")
            || !matches!(operation.as_ref(), "CREATE" | "UPDATE")
        {
            return Parsed::Other { uid };
        }
        let subject =
            |object: Object<'a>| object.into_subject(name.as_deref(), namespace.as_deref());
        let Some(new) = object.and_then(subject) else {
            return Parsed::Other { uid };
        };
        Parsed::Deployment(Box::new(Write {
            uid,
            dry_run: dry_run == Some(true),
            new,
            old: old_object.and_then(subject),
        }))
    }
}

impl<'a> Object<'a> {
    /// The review's own name and namespace are the ones the API server vouches for.
    fn into_subject(self, name: Option<&str>, namespace: Option<&str>) -> Option<Subject<'a>> {
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
            status: self.status.unwrap_or_default(),
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
        let containers = |list: Option<Bounded<Named>>| {
            let items = list.map(|list| list.items).unwrap_or_default();
            let container = |named: Named| Container {
                image: named.image,
                image_pull_policy: named.image_pull_policy,
                ..Container::default()
            };
            items.into_iter().map(container).collect::<Vec<_>>()
        };
        let volumes = pod.volumes.map(|list| list.items).unwrap_or_default();
        let volume = |Mounted { image }| Volume {
            image: image.map(|source| ImageVolumeSource {
                reference: source.reference,
                pull_policy: source.pull_policy,
            }),
            ..Volume::default()
        };
        Workload::from_deployment(&Deployment {
            metadata: ObjectMeta {
                name: Some(self.name.unwrap_or_default()),
                namespace: Some(self.namespace),
                generation: self.generation,
                labels: self.target.labels,
                annotations: self.target.annotations,
                ..ObjectMeta::default()
            },
            spec: Some(DeploymentSpec {
                paused: self.target.paused,
                replicas: self.replicas,
                template: PodTemplateSpec {
                    metadata: None,
                    spec: Some(PodSpec {
                        init_containers: Some(containers(pod.init_containers)),
                        containers: containers(pod.containers),
                        volumes: Some(volumes.into_iter().map(volume).collect()),
                        ..PodSpec::default()
                    }),
                },
                ..DeploymentSpec::default()
            }),
            status: Some(self.status.into()),
        })
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
