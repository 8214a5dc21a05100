//! What a Deployment may take in memory and in the pods that are made for it.

use k8s_openapi::api::core::v1::PodSpec;

use super::{Image, UnsupportedImage, Workload};
use crate::api::annotations::Annotations;
use crate::limits::{AFFINITY_TERMS, AFFINITY_VALUES, KEPT_BYTES, PULL_SECRETS, TOLERATIONS};
use crate::scheduling::affinity;
use crate::scheduling::constraints::SchedulingConstraints;
use crate::scheduling::selector::Selector;

/// What of a Deployment is over a limit, so that nothing is prefetched for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// Each would be in every prefetch pod.
    #[error("the pod template has more than {TOLERATIONS} tolerations")]
    Tolerations,
    /// Likewise.
    #[error("the pod template has more than {PULL_SECRETS} imagePullSecrets")]
    PullSecrets,
    /// It is judged for each node.
    #[error(
        "the required node affinity has more than {AFFINITY_TERMS} terms, {AFFINITY_TERMS} conditions in a term, or \
         {AFFINITY_VALUES} values in a condition"
    )]
    Affinity,
    /// All of it together.
    #[error(
        "its images, tolerations, affinity, selectors and names take more than {KEPT_BYTES} bytes"
    )]
    Whole,
}

impl TooLarge {
    /// What is over its limit in a pod template; not yet, what it all takes.
    pub(super) fn of(pod: &PodSpec) -> Option<Self> {
        Self::of_counts(
            pod.tolerations.as_ref().map_or(0, Vec::len),
            pod.image_pull_secrets.as_ref().map_or(0, Vec::len),
        )
        .or_else(|| affinity::is_too_large(pod.affinity.as_ref()).then_some(Self::Affinity))
    }

    /// What is over its limit of lists that are this long.
    pub fn of_counts(tolerations: usize, pull_secrets: usize) -> Option<Self> {
        if tolerations > TOLERATIONS {
            Some(Self::Tolerations)
        } else if pull_secrets > PULL_SECRETS {
            Some(Self::PullSecrets)
        } else {
            None
        }
    }
}

impl Workload {
    /// The same, or what is kept of it if it takes too much memory.
    pub(super) fn bounded(self) -> Self {
        if self.bytes() > KEPT_BYTES {
            self.reduced(TooLarge::Whole)
        } else {
            self
        }
    }

    /// What is kept of a Deployment that is too large.
    pub(super) fn reduced(self, why: TooLarge) -> Self {
        Self {
            images: Vec::new(),
            unsupported: Vec::new(),
            more_unsupported: 0,
            too_large: Some(why),
            constraints: SchedulingConstraints::default(),
            annotations: Annotations::default(),
            pods: None,
            image_pull_secrets: Vec::new(),
            service_account: None,
            runtime_class: None,
            ..self
        }
    }

    /// What it takes in memory, at most.
    fn bytes(&self) -> usize {
        let names = [
            Some(&self.key.namespace),
            Some(&self.key.name),
            Some(&self.uid),
            self.service_account.as_ref(),
            self.runtime_class.as_ref(),
        ];
        // The list grows in steps.
        let secret = |name: &String| 2 * size_of::<String>() + name.len();
        size_of::<Self>()
            + names.into_iter().flatten().map(String::len).sum::<usize>()
            + self.images.iter().map(Image::bytes).sum::<usize>()
            + self
                .unsupported
                .iter()
                .map(UnsupportedImage::bytes)
                .sum::<usize>()
            + self.constraints.bytes()
            + self.annotations.bytes()
            + self.pods.as_ref().map_or(0, Selector::bytes)
            + self.image_pull_secrets.iter().map(secret).sum::<usize>()
    }
}
