//! A Deployment, reduced to its images, the constraints on its nodes, and the state of its rollout.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::PodSpec;

use crate::api::annotations::Annotations;
use crate::api::hold_mark::HoldMark;
use crate::api::mode::{Mode, UnknownMode, mode_from_labels};
use crate::image::requests::{Images, images_in, images_of};
use crate::image::{Image, ImageRef, ImageRequest, ImageSetId, UnsupportedImage};
use crate::limits::{ITEMS, KEPT_BYTES};
use crate::rollout::rollout_of;
use crate::scheduling::constraints::SchedulingConstraints;
use crate::scheduling::selector::Selector;

mod fields;
mod size;
#[cfg(test)]
mod tests;

pub use fields::{PullTerms, RolloutSize, RolloutState, Unsupported};
pub use size::TooLarge;

/// Names a Deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Deployment, reduced to the data that a prefetch needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Namespace and name.
    pub key: DeploymentKey,
    /// The object's UID; empty in a review of a create, which has none yet.
    pub uid: String,
    /// The mode of its own label.
    pub mode: Result<Option<Mode>, UnknownMode>,
    /// Each unique image once: init containers' first, as a pod pulls them, then containers', then those of
    /// image volumes.
    pub images: Vec<Image>,
    /// The images that cannot be prefetched.
    pub unsupported: Unsupported,
    /// The part of it that is too large, if one is. Then nothing is prefetched for it. Only its key, its UID, its image set and
    /// the fields that end a hold are kept.
    pub too_large: Option<TooLarge>,
    /// Identifies the images.
    pub image_set: ImageSetId,
    /// The constraints on the nodes of its pods.
    pub constraints: SchedulingConstraints,
    /// Its annotations.
    pub annotations: Annotations,
    /// Selects its pods; kept only where it is used: [`Self::selector_for_max_nodes`] and [`Self::selector_for_starting_pods`].
    pub pods: Option<Selector>,
    /// The terms on which its images are pulled.
    pub terms: PullTerms,
    /// Its rollout, its pause and its hold.
    pub state: RolloutState,
}

/// The fields of a Deployment that a decision about a write reads.
pub struct DeploymentFields<'a> {
    /// Namespace and name.
    pub key: DeploymentKey,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// `metadata.labels`.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// `metadata.annotations`.
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// `spec.paused`.
    pub paused: Option<bool>,
    /// `spec.replicas`.
    pub replicas: Option<i32>,
    /// `status`.
    pub status: Option<&'a DeploymentStatus>,
    /// The part of the rest that is known to be too large.
    pub too_large: Option<TooLarge>,
}

impl Workload {
    /// Reads a Deployment; `None` if it has no name or no template, which no stored one lacks.
    pub fn from_deployment(deployment: &Deployment) -> Option<Self> {
        let metadata = &deployment.metadata;
        let spec = deployment.spec.as_ref()?;
        let pod = spec.template.spec.as_ref()?;
        let read = DeploymentFields {
            key: DeploymentKey {
                namespace: metadata.namespace.clone()?,
                name: metadata.name.clone()?,
            },
            generation: metadata.generation,
            labels: metadata.labels.as_ref(),
            annotations: metadata.annotations.as_ref(),
            paused: spec.paused,
            replicas: spec.replicas,
            status: deployment.status.as_ref(),
            too_large: TooLarge::of(pod),
        };
        let uid = metadata.uid.clone().unwrap_or_default();
        let mut workload = Self::from_review(read, images_in(pod));
        workload.state.size = RolloutSize::of(deployment);
        if workload.too_large.is_some() {
            return Some(Self { uid, ..workload });
        }
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let secrets = pod.image_pull_secrets.iter().flatten();
        let workload = Self {
            uid,
            constraints: SchedulingConstraints::from_pod_spec(pod),
            // An invalid selector is no reason not to prefetch: the API server stores none.
            pods: (workload.annotations.max_nodes.is_some() || workload.may_start_pods())
                .then(|| Selector::try_from(&spec.selector).ok())
                .flatten(),
            terms: PullTerms {
                image_pull_secrets: secrets
                    .map(|secret| secret.name.clone())
                    .filter(|name| !name.is_empty())
                    .collect(),
                service_account: named(&pod.service_account_name),
                runtime_class: named(&pod.runtime_class_name),
            },
            ..workload
        };
        Some(workload.bounded())
    }

    /// A Deployment as far as a review is read: not where its pods may land, nor with whose credentials they pull.
    pub fn from_review<'a>(
        read: DeploymentFields<'_>,
        images: impl Iterator<Item = ImageRequest<'a>>,
    ) -> Self {
        let DeploymentFields {
            key,
            generation,
            labels,
            annotations: given,
            paused,
            replicas,
            status,
            too_large,
        } = read;
        let mut annotations = Annotations::read(given);
        let more = annotations.images.take();
        let read = images_of(images, &more.map_or(Vec::new(), |images| images.0));
        let image_set = read.image_set();
        let Images {
            images,
            unsupported,
            more_unsupported,
            ..
        } = read;
        let replicas = replicas.unwrap_or(1);
        let paused = paused.unwrap_or(false);
        let rollout = rollout_of(generation, replicas, annotations.after_ready, status);
        let workload = Self {
            key,
            uid: String::new(),
            mode: mode_from_labels(labels),
            image_set,
            images,
            unsupported: Unsupported {
                images: unsupported,
                more: more_unsupported,
            },
            too_large: None,
            constraints: SchedulingConstraints::default(),
            annotations,
            pods: None,
            terms: PullTerms::default(),
            state: RolloutState {
                replicas,
                rollout,
                paused,
                held: HoldMark::from_metadata(labels, given, paused),
                size: RolloutSize::default(),
            },
        };
        match too_large {
            Some(why) => workload.reduced(why),
            None => workload.bounded(),
        }
    }

    /// Selects its pods, where the plan depends on where they are: where the number of nodes is limited.
    pub fn selector_for_max_nodes(&self) -> Option<&Selector> {
        self.annotations.max_nodes.and(self.pods.as_ref())
    }

    /// Selects its pods, while those of its rollout may be starting.
    pub fn selector_for_starting_pods(&self) -> Option<&Selector> {
        self.pods.as_ref().filter(|_| self.may_start_pods())
    }

    fn may_start_pods(&self) -> bool {
        !self.state.paused && self.state.replicas > 0 && !self.state.rollout.settled
    }

    /// Returns whether a pod that starts brings every image to its node. One of an older rollout does not, nor one that brings
    /// only what its template names where an annotation asks for more.
    pub fn pod_pulls_all(&self, pod: &PodSpec) -> bool {
        let brought: Vec<ImageRef> = images_in(pod)
            .take(ITEMS)
            .filter_map(|asked| asked.image.parse().ok())
            .collect();
        let mut images = self.images.iter();
        images.all(|image| brought.contains(&image.reference))
    }

    /// Returns it with only some of its images, by their positions: those that a node lacks.
    pub fn with_images(&self, positions: &[usize]) -> Self {
        let images: Vec<Image> = positions
            .iter()
            .filter_map(|position| self.images.get(*position).cloned())
            .collect();
        Self {
            image_set: ImageSetId::of(&images, &self.unsupported.images, None),
            images,
            ..self.clone()
        }
    }
}

impl Workload {
    /// Returns it, or the part that is kept if it takes too much memory.
    fn bounded(self) -> Self {
        if self.bytes() > KEPT_BYTES {
            self.reduced(TooLarge::Whole)
        } else {
            self
        }
    }

    /// Returns the part of a Deployment that is kept if it is too large.
    fn reduced(self, why: TooLarge) -> Self {
        Self {
            images: Vec::new(),
            unsupported: Unsupported::default(),
            too_large: Some(why),
            constraints: SchedulingConstraints::default(),
            annotations: Annotations::default(),
            pods: None,
            terms: PullTerms::default(),
            ..self
        }
    }

    /// Returns its size in memory, at most.
    fn bytes(&self) -> usize {
        let names = [
            Some(&self.key.namespace),
            Some(&self.key.name),
            Some(&self.uid),
            self.terms.service_account.as_ref(),
            self.terms.runtime_class.as_ref(),
        ];
        let secrets = &self.terms.image_pull_secrets;
        // The list begins with room for four, and doubles.
        let secrets_room = if secrets.is_empty() {
            0
        } else {
            (2 * secrets.len()).max(4)
        };
        // A Deployment is behind a counted pointer.
        let counts = 2 * size_of::<usize>();
        size_of::<Self>()
            + counts
            + self.image_set.text_len()
            + names.into_iter().flatten().map(String::len).sum::<usize>()
            + self.images.iter().map(Image::bytes).sum::<usize>()
            + self
                .unsupported
                .images
                .iter()
                .map(UnsupportedImage::bytes)
                .sum::<usize>()
            + self.constraints.bytes()
            + self.annotations.bytes()
            + self.pods.as_ref().map_or(0, Selector::bytes)
            + secrets_room * size_of::<String>()
            + secrets.iter().map(String::len).sum::<usize>()
    }
}
