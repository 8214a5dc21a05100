//! One prefetch pod, as the store keeps it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::change::NodeName;
use crate::api::well_known::{DEPLOYMENT_LABEL, REVISION_LABEL};
use crate::image::{ImageRef, ImageSetId};
use crate::pod::status::{PodStatusSummary, summarize};
use crate::pod::{is_prefetch_pod, node_of};
use crate::workload::DeploymentKey;

/// The images that a pod pulls, in the order of its containers. One that cannot be read is `None`, and no Deployment
/// wants it.
pub(super) type PodImages = Arc<[Option<ImageRef>]>;

/// A prefetch pod, reduced to its result.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefetchPod {
    /// The name.
    pub name: String,
    /// The UID: a delete must not hit a later pod by the same name.
    pub uid: String,
    /// The node that the pod is bound to.
    pub node: NodeName,
    /// The UID of the Deployment that owns the pod, unless the pod was orphaned.
    pub owner: Option<String>,
    /// The image set that the pod was made for.
    pub revision: ImageSetId,
    /// The images that the pod pulls, in the order of `outcome.images`.
    pub images: PodImages,
    /// The result in the status.
    pub outcome: PodStatusSummary,
    /// The time at which the pod was created.
    pub created: Option<Timestamp>,
    /// True while the pod is being deleted.
    pub deleting: bool,
}

/// Names a prefetch pod: its Deployment, and its own name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodId {
    /// The Deployment.
    pub key: DeploymentKey,
    /// The name of the pod.
    pub name: String,
}

/// A prefetch pod as a watch brings it.
#[derive(Debug)]
pub struct ObservedPod(pub(super) PrefetchPod);

impl PodId {
    /// Returns the identity of a pod; `None` if it is not a prefetch pod. The watch selects by label, which every user with the
    /// right to label pods can set. The shape of the pod decides, so that headstart deletes no other.
    pub fn of(pod: &Pod) -> Option<Self> {
        owner_and_name(pod).filter(|_| is_prefetch_pod(pod))
    }
}

impl ObservedPod {
    /// Reads a prefetch pod. `noop_image` is headstart's own image, whose failures are not those of the user's images.
    pub fn from_pod(pod: &Pod, noop_image: &str) -> Self {
        let metadata = &pod.metadata;
        let label = |key| metadata.labels.as_ref()?.get(key).map(String::as_str);
        let mut owners = metadata.owner_references.iter().flatten();
        Self(PrefetchPod {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            node: node_of(pod).unwrap_or_default().into(),
            owner: owners
                .find(|owner| owner.kind == "Deployment")
                .map(|owner| owner.uid.clone()),
            revision: label(REVISION_LABEL).unwrap_or_default().into(),
            images: images_of(pod).into(),
            outcome: summarize(pod, noop_image),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
        })
    }
}

/// Returns the images that a prefetch pod pulls: those that its containers mount, or run.
fn images_of(pod: &Pod) -> Vec<Option<ImageRef>> {
    let Some(spec) = pod.spec.as_ref() else {
        return Vec::new();
    };
    let mounted = |name: &str| {
        let mut volumes = spec.volumes.iter().flatten();
        let volume = volumes.find(|volume| volume.name == name)?;
        volume.image.as_ref()?.reference.as_deref()
    };
    let containers = spec.containers.iter();
    containers
        .map(|container| {
            let image = mounted(&container.name).or(container.image.as_deref())?;
            image.parse().ok()
        })
        .collect()
}

/// Returns the Deployment of a prefetch pod, and the pod's name. The owner reference names the Deployment; a pod that was
/// orphaned has only its label.
fn owner_and_name(pod: &Pod) -> Option<PodId> {
    let metadata = &pod.metadata;
    let owner = metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == "Deployment");
    let label = || metadata.labels.as_ref()?.get(DEPLOYMENT_LABEL).cloned();
    let key = DeploymentKey {
        namespace: metadata.namespace.clone()?,
        name: owner.map(|owner| owner.name.clone()).or_else(label)?,
    };
    let name = metadata.name.clone()?;
    Some(PodId { key, name })
}
