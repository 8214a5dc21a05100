//! What a Deployment may take in memory and in the pods that are made for it.

use k8s_openapi::api::core::v1::PodSpec;

use crate::limits::{AFFINITY_TERMS, AFFINITY_VALUES, KEPT_BYTES, PULL_SECRETS, TOLERATIONS};
use crate::scheduling::affinity;

/// What of a Deployment is over a limit, so that nothing is prefetched for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// Each would be in every prefetch pod.
    #[error("the pod template has more than {TOLERATIONS} tolerations")]
    Tolerations,
    /// Likewise.
    #[error("the pod template has more than {PULL_SECRETS} imagePullSecrets")]
    PullSecrets,
    /// The affinity is evaluated for each node.
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
