//! What a node has of a Deployment's images, read from the prefetch pods on it: nothing else is remembered, so a
//! new leader judges as the old one did.

use k8s_openapi::jiff::Timestamp;

use super::PrefetchPod;
use headstart_core::image::Image;
use headstart_core::pod::status::{Failure, ImageStatus};
use headstart_core::workload::Workload;

#[cfg(test)]
pub(crate) mod tests;

/// What pods must meet to count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standards {
    /// Refresh: what ended before this has to be done again.
    pub(crate) fresh_since: Option<Timestamp>,
    /// What failed before this was asked for in another way, with other credentials or on other terms.
    pub(crate) failures_since: Option<Timestamp>,
    /// When the node joined: what was on a namesake before it went with that.
    pub(crate) node_since: Option<Timestamp>,
}

/// How far a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It has every image.
    Warm,
    /// A pod is at it.
    UnderWay {
        /// It pulls, or is about to; else it waits for its next attempt.
        pulling: bool,
        /// It had a failure that may pass: the image's position and what was answered.
        failures: Vec<(usize, Failure)>,
    },
    /// An image cannot be had.
    Failed(Vec<(usize, Failure)>),
    /// Nobody brings these images, by their positions.
    Lacks {
        /// Their positions.
        images: Vec<usize>,
        /// What became of pods that should have brought them.
        failures: Vec<(usize, Failure)>,
    },
}

/// What is known of one image.
enum Known {
    Here,
    Coming(Option<Failure>),
    Refused(Failure),
    Nothing(Option<Failure>),
}

/// Judges a node by the pods of a Deployment on it. Pods of an older rollout count where they bring what this one
/// wants: images common to both are pulled once, and a rollback finds what is warm.
pub(crate) fn judge(workload: &Workload, pods: &[PrefetchPod], standards: Standards) -> Verdict {
    let (mut failed, mut failures, mut lacks) = (Vec::new(), Vec::new(), Vec::new());
    let (mut coming, mut pulling) = (false, false);
    for (index, image) in workload.images.iter().enumerate() {
        match known_of(image, workload, pods, standards) {
            Known::Here => {}
            Known::Coming(failure) => {
                coming = true;
                pulling |= failure.is_none();
                failures.extend(failure.map(|failure| (index, failure)));
            }
            Known::Refused(failure) => failed.push((index, failure)),
            Known::Nothing(failure) => {
                lacks.push(index);
                failures.extend(failure.map(|failure| (index, failure)));
            }
        }
    }
    if !failed.is_empty() {
        Verdict::Failed(failed)
    } else if coming {
        Verdict::UnderWay { pulling, failures }
    } else if lacks.is_empty() {
        Verdict::Warm
    } else {
        Verdict::Lacks {
            images: lacks,
            failures,
        }
    }
}

fn known_of(
    image: &Image,
    workload: &Workload,
    pods: &[PrefetchPod],
    standards: Standards,
) -> Known {
    let mut best = Known::Nothing(None);
    for pod in pods.iter().filter(|pod| is_of(pod, workload)) {
        let wanted = |found: &Option<_>| found.as_ref() == Some(&image.reference);
        if standards
            .node_since
            .is_some_and(|joined| pod.created < Some(joined))
        {
            continue;
        }
        let Some(position) = pod.images.iter().position(wanted) else {
            continue;
        };
        let same_rollout = pod.revision == workload.image_set;
        // A tag that the registry is asked for each time may mean another image by now.
        if image.always && !same_rollout {
            continue;
        }
        let since = pod.outcome.ended.or(pod.created);
        let ended = pod.outcome.ended.is_some();
        let is_old = |limit: Option<Timestamp>| limit.is_some_and(|limit| since < Some(limit));
        match pod.outcome.images.get(position) {
            Some(ImageStatus::Pulled) if !is_old(standards.fresh_since) => return Known::Here,
            Some(ImageStatus::Pending) if !ended => best = Known::Coming(None),
            Some(ImageStatus::Failed(failure)) if failure.kind.is_permanent() => {
                let counts = same_rollout
                    && !is_old(standards.fresh_since)
                    && standards
                        .failures_since
                        .is_none_or(|limit| pod.created >= Some(limit));
                if counts && matches!(best, Known::Nothing(_)) {
                    best = Known::Refused(failure.clone());
                }
            }
            // The kubelet tries again by itself.
            Some(ImageStatus::Failed(failure)) if !ended => {
                if !matches!(best, Known::Coming(None)) {
                    best = Known::Coming(Some(failure.clone()));
                }
            }
            Some(ImageStatus::Failed(failure) | ImageStatus::Rejected(failure)) => {
                if matches!(best, Known::Nothing(None)) && same_rollout {
                    best = Known::Nothing(Some(failure.clone()));
                }
            }
            Some(ImageStatus::Pulled | ImageStatus::Pending) | None => {}
        }
    }
    best
}

/// Whether a pod belongs to this very Deployment, and stays.
fn is_of(pod: &PrefetchPod, workload: &Workload) -> bool {
    !pod.deleting && pod.owner.as_deref() == Some(workload.uid.as_str())
}

/// Whether a pod is still to bring something that the Deployment wants.
pub(crate) fn is_wanted(workload: &Workload, pod: &PrefetchPod) -> bool {
    let coming = |outcome: &ImageStatus| match outcome {
        ImageStatus::Pending => true,
        ImageStatus::Failed(failure) => !failure.kind.is_permanent() && pod.outcome.ended.is_none(),
        ImageStatus::Pulled | ImageStatus::Rejected(_) => false,
    };
    let mut images = pod.images.iter().zip(&pod.outcome.images);
    images.any(|(found, outcome)| {
        coming(outcome)
            && workload
                .images
                .iter()
                .any(|image| !image.always && found.as_ref() == Some(&image.reference))
    })
}
