//! What is read of an AdmissionReview: as little as decides, because anyone can send one.
//!
//! A Deployment is read in one pass into types that are small whatever was sent: three bytes of JSON can be an empty
//! container, which as Kubernetes' own type takes a kilobyte, so 7 MiB would become gigabytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, PodSpec, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;

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
pub(super) struct Review<'a, O = Object> {
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
pub(super) struct Request<'a, O = Object> {
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
pub(super) struct Object {
    metadata: Option<Metadata>,
    spec: Option<Spec>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    labels: Option<Own>,
    annotations: Option<Own>,
}

#[derive(Deserialize)]
struct Spec {
    template: Option<Template>,
}

#[derive(Deserialize)]
struct Template {
    spec: Option<Pod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    init_containers: Option<Bounded<Named>>,
    containers: Option<Bounded<Named>>,
    volumes: Option<Bounded<Mounted>>,
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
pub(super) struct Write {
    /// Identifies the review.
    pub(super) uid: String,
    /// Whether it is never stored.
    pub(super) dry_run: bool,
    /// As it is to be.
    pub(super) new: Subject,
    /// As it was, of an update.
    pub(super) old: Option<Subject>,
}

/// One state of a Deployment.
pub(super) struct Subject {
    /// Its namespace.
    pub(super) namespace: String,
    name: Option<String>,
    own_labels: BTreeMap<String, String>,
    own_annotations: BTreeMap<String, String>,
    pod: Option<Pod>,
}

/// A review that was understood.
pub(super) enum Parsed {
    /// A write of a Deployment.
    Deployment(Box<Write>),
    /// Something else, to be allowed.
    Other {
        /// Identifies the review.
        uid: String,
    },
}

/// Reads a review; an error says in words what is wrong with it.
pub(super) fn parse(body: &[u8]) -> Result<Parsed, String> {
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

impl Request<'_> {
    fn into_parsed(self) -> Parsed {
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
        let subject = |object: Object| object.into_subject(name.as_deref(), namespace.as_deref());
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

impl Object {
    /// The review's own name and namespace are the ones the API server vouches for.
    fn into_subject(self, name: Option<&str>, namespace: Option<&str>) -> Option<Subject> {
        let metadata = self.metadata.unwrap_or_default();
        let given = |given: Option<&str>, own: Option<String>, longest: usize| {
            let given = given.filter(|given| !given.is_empty()).map(str::to_owned);
            given
                .or(own)
                .filter(|name| !name.is_empty() && name.len() <= longest)
        };
        Some(Subject {
            namespace: given(namespace, metadata.namespace, MAX_NAMESPACE)?,
            name: given(name, metadata.name, MAX_NAME),
            own_labels: metadata.labels.unwrap_or_default().0,
            own_annotations: metadata.annotations.unwrap_or_default().0,
            pod: self
                .spec
                .and_then(|spec| spec.template)
                .and_then(|template| template.spec),
        })
    }
}

impl Subject {
    /// headstart's labels.
    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.own_labels
    }

    /// headstart's annotations.
    pub(super) fn annotations(&self) -> &BTreeMap<String, String> {
        &self.own_annotations
    }

    /// What a prefetch would see in it. `None` without a name, which `generateName` gives later, or a template, and
    /// with more containers than could run.
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
                name: Some(self.name?),
                namespace: Some(self.namespace),
                labels: Some(self.own_labels),
                annotations: Some(self.own_annotations),
                ..ObjectMeta::default()
            },
            spec: Some(DeploymentSpec {
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
            status: None,
        })
    }
}
