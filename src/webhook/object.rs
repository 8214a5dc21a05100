//! A Deployment in a review.
//!
//! It is read where it lies, and nothing is kept but what is decided by: three bytes of JSON can be an empty container, which
//! as Kubernetes' own type takes a kilobyte, so 7 MiB would become gigabytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::api::core::v1::Affinity;

use super::json::{Invalid, Json, beginning, elements};
use super::patch::Target;
use super::review::{MAX_NAME, name};
use crate::domain::affinity;
use crate::domain::annotation::longest_value;
use crate::domain::contract::{KEYS, PREFIX};
use crate::domain::limits::{IMAGE_BYTES, KEPT_BYTES};
use crate::domain::workload::{Asked, Key, Read, TooLarge, Workload};

/// The longest name of a namespace that an API server gives; a forged review may hold megabytes.
const MAX_NAMESPACE: usize = 63;
/// The longest key of a label or annotation: a DNS name, a slash, and a name.
const MAX_KEY: usize = 253 + 1 + 63;
/// Most labels or annotations by headstart's prefix that no version of it that is known here has set.
const MAX_FOREIGN: usize = 32;
/// The condition of a Deployment that tells how far its rollout is.
const PROGRESSING: &str = "Progressing";

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
    status: Option<DeploymentStatus>,
}

#[derive(Default)]
struct Metadata<'a> {
    name: Option<Cow<'a, str>>,
    namespace: Option<Cow<'a, str>>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Default)]
struct Spec<'a> {
    paused: Option<bool>,
    replicas: Option<i32>,
    pod: Option<Pod<'a>>,
}

/// Each part as it was written.
#[derive(Default)]
struct Pod<'a> {
    init_containers: Option<&'a [u8]>,
    containers: Option<&'a [u8]>,
    volumes: Option<&'a [u8]>,
    placement: Placement<'a>,
}

/// Where pods may land, and with whose credentials they pull: only compared and measured.
#[derive(Default, PartialEq, Eq)]
struct Placement<'a> {
    node_name: Option<&'a [u8]>,
    node_selector: Option<&'a [u8]>,
    affinity: Option<&'a [u8]>,
    tolerations: Option<&'a [u8]>,
    image_pull_secrets: Option<&'a [u8]>,
    service_account_name: Option<&'a [u8]>,
    runtime_class_name: Option<&'a [u8]>,
}

impl<'a> Subject<'a> {
    /// Reads an object; `None` if it is no Deployment. The review's own name and namespace are the ones the API server
    /// vouches for.
    pub(super) fn read(
        object: &'a [u8],
        name: Option<&str>,
        namespace: Option<&str>,
    ) -> Option<Self> {
        let (mut metadata, mut spec, mut status) = (None, None, None);
        let read = Json::new(object).object(|key, json| {
            match &*key.up_to(MAX_NAME) {
                "metadata" => metadata = json.optional(Metadata::read)?,
                "spec" => spec = json.optional(Spec::read)?,
                "status" => status = json.optional(read_status)?,
                _ => drop(json.skip()?),
            }
            Ok(())
        });
        read.ok()?;
        let Metadata {
            name: own_name,
            namespace: own_namespace,
            generation,
            labels,
            annotations,
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
            target: Target {
                labels,
                annotations,
                paused,
            },
            replicas,
            pod,
            status,
        })
    }

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
        let pods = self.pod.as_ref().zip(other.pod.as_ref());
        pods.is_some_and(|(a, b)| a.placement == b.placement)
    }

    /// What a prefetch would see in it; its name is empty if `generateName` gives it later. `None` without a template.
    pub(super) fn into_workload(self) -> Option<Workload> {
        let Pod {
            init_containers,
            containers,
            volumes,
            placement,
        } = self.pod?;
        let containers = [init_containers, containers].into_iter().flatten();
        let of_containers = containers.flat_map(elements).map(|element| {
            asked(&mut Json::new(element), "image", "imagePullPolicy").unwrap_or_default()
        });
        let of_volumes = volumes.into_iter().flat_map(elements).filter_map(mounted);
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
            status: self.status.as_ref(),
            too_large: placement.too_large(),
        };
        Some(Workload::reviewed(read, of_containers.chain(of_volumes)))
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
                "labels" => metadata.labels = json.optional(own)?,
                "annotations" => metadata.annotations = json.optional(own)?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        Ok(metadata)
    }
}

/// Labels or annotations, of which only headstart's own are kept; of a value that is too long, so much that it is seen to be.
fn own(json: &mut Json<'_>) -> Result<BTreeMap<String, String>, Invalid> {
    let mut own = BTreeMap::new();
    let mut foreign = 0;
    json.object(|key, json| {
        let text = key.up_to(MAX_KEY);
        if !key.may_begin_with(PREFIX) || !text.starts_with(PREFIX) || text.len() > MAX_KEY {
            json.skip()?;
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

impl<'a> Pod<'a> {
    fn read(json: &mut Json<'a>) -> Result<Self, Invalid> {
        let mut pod = Self::default();
        json.object(|key, json| {
            let part = match &*key.up_to(MAX_NAME) {
                "initContainers" => &mut pod.init_containers,
                "containers" => &mut pod.containers,
                "volumes" => &mut pod.volumes,
                "nodeName" => &mut pod.placement.node_name,
                "nodeSelector" => &mut pod.placement.node_selector,
                "affinity" => &mut pod.placement.affinity,
                "tolerations" => &mut pod.placement.tolerations,
                "imagePullSecrets" => &mut pod.placement.image_pull_secrets,
                "serviceAccountName" => &mut pod.placement.service_account_name,
                "runtimeClassName" => &mut pod.placement.runtime_class_name,
                _ => {
                    json.skip()?;
                    return Ok(());
                }
            };
            *part = json.optional(Json::skip)?;
            Ok(())
        })?;
        Ok(pod)
    }
}

impl Placement<'_> {
    /// What is over its limit, as far as can be told from how it was written.
    fn too_large(&self) -> Option<TooLarge> {
        let Self {
            node_name,
            node_selector,
            affinity,
            tolerations,
            image_pull_secrets,
            service_account_name,
            runtime_class_name,
        } = self;
        let count = |list: &Option<&[u8]>| list.map_or(0, |list| elements(list).count());
        if let Some(why) = TooLarge::of_counts(count(tolerations), count(image_pull_secrets)) {
            return Some(why);
        }
        let all = [
            node_name,
            node_selector,
            affinity,
            tolerations,
            image_pull_secrets,
            service_account_name,
            runtime_class_name,
        ];
        let bytes: usize = all.into_iter().flatten().map(|part| part.len()).sum();
        if bytes > KEPT_BYTES {
            return Some(TooLarge::Whole);
        }
        // At most a few hundred KiB, of so many bytes.
        let affinity: Option<Affinity> = serde_json::from_slice((*affinity)?).ok();
        affinity::is_too_large(affinity.as_ref()).then_some(TooLarge::Affinity)
    }
}

/// The image of a container or of a volume's source.
fn asked<'a>(json: &mut Json<'a>, image: &str, policy: &str) -> Result<Asked<'a>, Invalid> {
    let mut asked = Asked::default();
    json.object(|key, json| {
        let key = key.up_to(MAX_NAME);
        if key == image {
            let text = json.optional(|json| Ok(json.text()?.up_to(IMAGE_BYTES)))?;
            asked.image = text.unwrap_or_default();
        } else if key == policy {
            let policy = json.optional(name)?;
            asked.pull_policy = match policy.as_deref() {
                Some("Always") => Some("Always"),
                Some("Never") => Some("Never"),
                _ => None,
            };
        } else {
            json.skip()?;
        }
        Ok(())
    })?;
    Ok(asked)
}

/// The image of a volume that is one.
fn mounted(volume: &[u8]) -> Option<Asked<'_>> {
    let mut mounted = None;
    let read = Json::new(volume).object(|key, json| {
        if key.up_to(MAX_NAME) == "image" {
            mounted = json.optional(|json| asked(json, "reference", "pullPolicy"))?;
        } else {
            json.skip()?;
        }
        Ok(())
    });
    read.ok().and(mounted)
}

/// How far the rollout before this write is.
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
                let progressing = elements(list).find_map(progressing);
                status.conditions = Some(progressing.into_iter().collect());
            }
            _ => drop(json.skip()?),
        }
        Ok(())
    })?;
    Ok(status)
}

/// A condition, if it tells of the rollout.
fn progressing(condition: &[u8]) -> Option<DeploymentCondition> {
    let (mut type_, mut reason) = (None, None);
    let read = Json::new(condition).object(|key, json| {
        match &*key.up_to(MAX_NAME) {
            "type" => type_ = json.optional(name)?,
            "reason" => reason = json.optional(name)?,
            _ => drop(json.skip()?),
        }
        Ok(())
    });
    (read.is_ok() && type_.as_deref() == Some(PROGRESSING)).then(|| DeploymentCondition {
        type_: PROGRESSING.into(),
        reason: reason.map(|reason| beginning(&reason, MAX_NAME).to_owned()),
        ..DeploymentCondition::default()
    })
}
