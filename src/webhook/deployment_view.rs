//! A Deployment in a review.
//!
//! The body is read in place, and only the fields that a decision needs are kept. Three bytes of JSON can be an empty
//! container, which as Kubernetes' own type takes a kilobyte, so 7 MiB would become gigabytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};

use super::json::{Invalid, Json, beginning, each};
use super::names::{MAX_NAME, name};
use super::patch::PatchBase;
use headstart_core::api::annotations::longest_value;
use headstart_core::api::well_known::{KEYS, PREFIX};
use headstart_core::workload::{DeploymentFields, DeploymentKey, Workload};
use pausers::Pausers;
use pod::Pod;

mod pausers;
mod pod;

/// The longest name of a namespace that an API server gives; a forged review may hold megabytes.
const MAX_NAMESPACE: usize = 63;
/// The longest key of a label or annotation: a DNS name, a slash, and a name.
const MAX_KEY: usize = 253 + 1 + 63;
/// The limit for labels or annotations with headstart's prefix and a key that this version does not know.
const MAX_FOREIGN: usize = 32;
/// The condition of a Deployment with the progress of its rollout.
const PROGRESSING: &str = "Progressing";

/// A Deployment as it was written.
#[derive(Default)]
pub(super) struct RawDeployment<'a> {
    metadata: Option<Metadata<'a>>,
    spec: Option<Spec<'a>>,
    status: Option<DeploymentStatus>,
}

/// One state of a Deployment.
pub(super) struct ReviewedDeployment<'a> {
    /// Its namespace.
    pub(super) namespace: String,
    name: Option<String>,
    generation: Option<i64>,
    /// The part of the object that a patch of headstart touches.
    pub(super) patch_base: PatchBase,
    /// The fields that show whether another client sets `spec.paused`.
    pub(super) pausers: Pausers<'a>,
    replicas: Option<i32>,
    pod: Option<Pod<'a>>,
    status: Option<DeploymentStatus>,
}

#[derive(Default)]
struct Metadata<'a> {
    name: Option<Cow<'a, str>>,
    namespace: Option<Cow<'a, str>>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    pausers: Pausers<'a>,
}

#[derive(Default)]
struct Spec<'a> {
    paused: Option<bool>,
    replicas: Option<i32>,
    pod: Option<Pod<'a>>,
}

impl<'a> RawDeployment<'a> {
    pub(super) fn read(json: &mut Json<'a>) -> Result<Self, Invalid> {
        let mut object = Self::default();
        json.object(|key, json| {
            match &*key.up_to(MAX_NAME) {
                "metadata" => object.metadata = json.optional(Metadata::read)?,
                "spec" => object.spec = json.optional(Spec::read)?,
                "status" => object.status = json.optional(read_status)?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        Ok(object)
    }
}

impl<'a> ReviewedDeployment<'a> {
    /// Returns the state of an object, if it is a Deployment. The API server vouches for the review's own name and namespace,
    /// which take precedence.
    pub(super) fn new(
        object: RawDeployment<'a>,
        name: Option<&str>,
        namespace: Option<&str>,
    ) -> Option<Self> {
        let RawDeployment {
            metadata,
            spec,
            status,
        } = object;
        let Metadata {
            name: own_name,
            namespace: own_namespace,
            generation,
            labels,
            annotations,
            pausers,
        } = metadata?;
        let Spec {
            paused,
            replicas,
            pod,
        } = spec?;
        let given = |given: Option<&str>, own: Option<Cow<'_, str>>, longest: usize| {
            let given = given.filter(|given| !given.is_empty());
            let name = given.or(own.as_deref())?;
            (!name.is_empty() && name.len() <= longest).then(|| name.to_owned())
        };
        Some(Self {
            namespace: given(namespace, own_namespace, MAX_NAMESPACE)?,
            name: given(name, own_name, MAX_NAME),
            generation,
            patch_base: PatchBase {
                labels,
                annotations,
                paused,
            },
            pausers,
            replicas,
            pod,
            status,
        })
    }

    /// headstart's labels.
    pub(super) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.patch_base.labels.as_ref()
    }

    /// headstart's annotations.
    pub(super) fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.patch_base.annotations.as_ref()
    }

    /// Returns whether the pods of both may land on the same nodes and pull with the same credentials. Only compares the text.
    pub(super) fn same_constraints_and_credentials(&self, other: &Self) -> bool {
        let pods = self.pod.as_ref().zip(other.pod.as_ref());
        pods.is_some_and(|(a, b)| a.same_constraints_and_credentials(b))
    }

    /// Returns the workload that a prefetch would be for. Its name is empty if `generateName` sets it later. `None` without a
    /// template.
    pub(super) fn into_workload(self) -> Option<Workload> {
        let pod = self.pod?;
        let read = DeploymentFields {
            key: DeploymentKey {
                namespace: self.namespace,
                name: self.name.unwrap_or_default(),
            },
            generation: self.generation,
            labels: self.patch_base.labels.as_ref(),
            annotations: self.patch_base.annotations.as_ref(),
            paused: self.patch_base.paused,
            replicas: self.replicas,
            status: self.status.as_ref(),
            too_large: pod.too_large(),
        };
        Some(Workload::from_review(read, pod.images()))
    }
}

impl<'a> Metadata<'a> {
    fn read(json: &mut Json<'a>) -> Result<Self, Invalid> {
        let mut metadata = Self::default();
        json.object(|key, json| {
            match &*key.up_to(MAX_NAME) {
                "name" => metadata.name = json.optional(name)?,
                "namespace" => metadata.namespace = json.optional(name)?,
                "generation" => metadata.generation = json.optional(Json::whole)?,
                "labels" => {
                    let own = |json: &mut Json<'a>| own_entries(json, |_, _| Ok(false));
                    metadata.labels = json.optional(own)?;
                }
                "annotations" => {
                    let pausers = &mut metadata.pausers;
                    let own = |json: &mut Json<'a>| {
                        own_entries(json, |key, json| pausers.take(key, json))
                    };
                    metadata.annotations = json.optional(own)?;
                }
                "managedFields" => metadata.pausers.managed_fields = json.skip()?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        Ok(metadata)
    }
}

/// Reads labels or annotations, and keeps only headstart's own. A value that is too long is kept just long enough to show
/// that. `take` reads the value of another key, or returns false.
fn own_entries<'a>(
    json: &mut Json<'a>,
    mut take: impl FnMut(&str, &mut Json<'a>) -> Result<bool, Invalid>,
) -> Result<BTreeMap<String, String>, Invalid> {
    let mut own = BTreeMap::new();
    let mut foreign = 0;
    json.object(|key, json| {
        let text = key.up_to(MAX_KEY);
        if text.len() > MAX_KEY || !text.starts_with(PREFIX) {
            if text.len() > MAX_KEY || !take(&text, json)? {
                json.skip()?;
            }
            return Ok(());
        }
        let longest = longest_value(&text);
        let value = json.text()?.up_to(longest);
        if !KEYS.contains(&&*text) {
            foreign += 1;
        }
        if foreign <= MAX_FOREIGN || KEYS.contains(&&*text) {
            own.insert(text.into_owned(), beginning(&value, longest).to_owned());
        }
        Ok(())
    })?;
    Ok(own)
}

impl<'a> Spec<'a> {
    fn read(json: &mut Json<'a>) -> Result<Self, Invalid> {
        let mut spec = Self::default();
        json.object(|key, json| {
            match &*key.up_to(MAX_NAME) {
                "paused" => spec.paused = json.optional(Json::boolean)?,
                "replicas" => spec.replicas = json.optional(Json::whole)?,
                "template" => spec.pod = json.optional(template)?.flatten(),
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        Ok(spec)
    }
}

fn template<'a>(json: &mut Json<'a>) -> Result<Option<Pod<'a>>, Invalid> {
    let mut pod = None;
    json.object(|key, json| {
        if key.up_to(MAX_NAME) == "spec" {
            pod = json.optional(Pod::read)?;
        } else {
            json.skip()?;
        }
        Ok(())
    })?;
    Ok(pod)
}

/// Reads the status of the rollout before this write.
fn read_status(json: &mut Json<'_>) -> Result<DeploymentStatus, Invalid> {
    let mut status = DeploymentStatus::default();
    json.object(|key, json| {
        match &*key.up_to(MAX_NAME) {
            "observedGeneration" => status.observed_generation = json.optional(Json::whole)?,
            "replicas" => status.replicas = json.optional(Json::whole)?,
            "updatedReplicas" => status.updated_replicas = json.optional(Json::whole)?,
            "availableReplicas" => status.available_replicas = json.optional(Json::whole)?,
            "unavailableReplicas" => status.unavailable_replicas = json.optional(Json::whole)?,
            "conditions" => {
                let list = json.optional(Json::skip)?.unwrap_or_default();
                let progressing = each(list, progressing).find_map(|found| found.ok().flatten());
                status.conditions = Some(progressing.into_iter().collect());
            }
            _ => drop(json.skip()?),
        }
        Ok(())
    })?;
    Ok(status)
}

/// Returns the condition if it is about the progress of the rollout.
fn progressing(json: &mut Json<'_>) -> Result<Option<DeploymentCondition>, Invalid> {
    let (mut type_, mut reason) = (None, None);
    json.object(|key, json| {
        match &*key.up_to(MAX_NAME) {
            "type" => type_ = json.optional(name)?,
            "reason" => reason = json.optional(name)?,
            _ => drop(json.skip()?),
        }
        Ok(())
    })?;
    Ok(
        (type_.as_deref() == Some(PROGRESSING)).then(|| DeploymentCondition {
            type_: PROGRESSING.into(),
            reason: reason.map(|reason| beginning(&reason, MAX_NAME).to_owned()),
            ..DeploymentCondition::default()
        }),
    )
}
