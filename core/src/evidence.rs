//! Derives the images on a node from the status of its prefetch pods. Keeps no other state, so every leader gets the same
//! result.

use k8s_openapi::jiff::Timestamp;

use crate::image::Image;
use crate::pod::status::{Failure, ImageStatus};
use crate::store::PrefetchPod;
use crate::workload::Workload;

#[cfg(test)]
mod tests;

/// The times between which evidence counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct EvidenceWindow {
    /// With refresh: a pull that ended earlier has to be done again.
    pub pulled_after: Option<Timestamp>,
    /// An earlier failure was met on other terms: other credentials, another placement.
    pub failed_after: Option<Timestamp>,
    /// The time at which the node joined. Earlier pods were on another node by the same name.
    pub node_created_at: Option<Timestamp>,
}

/// The images of a Deployment on a node.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeImages {
    /// All are on the node.
    Present,
    /// A pod brings them.
    Pulling {
        /// A pod of the Deployment pulls, or is about to. Otherwise the pod is another Deployment's, or the kubelet waits for its
        /// next attempt.
        active: bool,
        /// Failures that may pass, with the position of each image.
        failures: Vec<(usize, Failure)>,
    },
    /// Images that cannot be pulled.
    Failed(Vec<(usize, Failure)>),
    /// No pod brings some of the images.
    Missing {
        /// The positions of these images.
        images: Vec<usize>,
        /// The failures of pods that should have brought them.
        failures: Vec<(usize, Failure)>,
    },
}

/// One image on a node.
enum ImageState {
    Present,
    Pulling(Option<Failure>),
    /// By a pod of another Deployment.
    PullingForOther(Option<Failure>),
    Failed(Failure),
    Missing(Option<Failure>),
}

/// Returns the images of a Deployment on a node, from the Deployment's prefetch pods there. Pods of an earlier image set
/// count where they bring what this one wants: a common image is pulled once, and a rollback finds its images present. So do
/// `shared` pods, which other Deployments of the namespace made on the same terms.
pub fn images_on_node(
    workload: &Workload,
    pods: &[&PrefetchPod],
    shared: &[&PrefetchPod],
    window: EvidenceWindow,
) -> NodeImages {
    let (mut failed, mut failures, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let (mut pulling, mut active) = (false, false);
    for (index, image) in workload.images.iter().enumerate() {
        match image_state(image, workload, (pods, shared), window) {
            ImageState::Present => {}
            ImageState::Pulling(failure) => {
                pulling = true;
                active |= failure.is_none();
                failures.extend(failure.map(|failure| (index, failure)));
            }
            ImageState::PullingForOther(failure) => {
                pulling = true;
                failures.extend(failure.map(|failure| (index, failure)));
            }
            ImageState::Failed(failure) => failed.push((index, failure)),
            ImageState::Missing(failure) => {
                missing.push(index);
                failures.extend(failure.map(|failure| (index, failure)));
            }
        }
    }
    if !failed.is_empty() {
        NodeImages::Failed(failed)
    } else if pulling {
        NodeImages::Pulling { active, failures }
    } else if missing.is_empty() {
        NodeImages::Present
    } else {
        NodeImages::Missing {
            images: missing,
            failures,
        }
    }
}

fn image_state(
    image: &Image,
    workload: &Workload,
    (own, shared): (&[&PrefetchPod], &[&PrefetchPod]),
    window: EvidenceWindow,
) -> ImageState {
    let mut best = ImageState::Missing(None);
    let own = own.iter().filter(|pod| belongs_to(pod, workload));
    let shared = shared.iter().filter(|pod| !pod.deleting);
    for (pod, own) in own
        .map(|pod| (pod, true))
        .chain(shared.map(|pod| (pod, false)))
    {
        let wanted = |found: &Option<_>| found.as_ref() == Some(&image.reference);
        if window
            .node_created_at
            .is_some_and(|joined| pod.created < Some(joined))
        {
            continue;
        }
        let Some(position) = pod.images.iter().position(wanted) else {
            continue;
        };
        let same_images = own && pod.revision == workload.image_set;
        // A tag that is pulled each time may mean another image by now.
        if image.always && !same_images {
            continue;
        }
        let since = pod.outcome.ended.or(pod.created);
        let ended = pod.outcome.ended.is_some();
        let is_old = |limit: Option<Timestamp>| limit.is_some_and(|limit| since < Some(limit));
        match pod.outcome.images.get(position) {
            Some(ImageStatus::Pulled) if !is_old(window.pulled_after) => {
                return ImageState::Present;
            }
            Some(ImageStatus::Pending) if !ended && own => best = ImageState::Pulling(None),
            Some(ImageStatus::Pending) if !ended => {
                if !matches!(best, ImageState::Pulling(None)) {
                    best = ImageState::PullingForOther(None);
                }
            }
            Some(ImageStatus::Failed(failure)) if failure.kind.is_permanent() => {
                let counts = (same_images || !own)
                    && !is_old(window.pulled_after)
                    && window
                        .failed_after
                        .is_none_or(|limit| pod.created >= Some(limit));
                if counts && matches!(best, ImageState::Missing(_)) {
                    best = ImageState::Failed(failure.clone());
                }
            }
            // The kubelet tries again.
            Some(ImageStatus::Failed(failure)) if !ended => {
                let failure = Some(failure.clone());
                match best {
                    ImageState::Pulling(None) | ImageState::PullingForOther(None) => {}
                    _ if own => best = ImageState::Pulling(failure),
                    ImageState::Pulling(_) => {}
                    _ => best = ImageState::PullingForOther(failure),
                }
            }
            Some(ImageStatus::Failed(failure) | ImageStatus::Rejected(failure)) => {
                if matches!(best, ImageState::Missing(None)) && (same_images || !own) {
                    best = ImageState::Missing(Some(failure.clone()));
                }
            }
            Some(ImageStatus::Pulled | ImageStatus::Pending) | None => {}
        }
    }
    best
}

/// Returns whether a pod is owned by this very Deployment, and is not being deleted.
fn belongs_to(pod: &PrefetchPod, workload: &Workload) -> bool {
    !pod.deleting && pod.owner.as_deref() == Some(workload.uid.as_str())
}

/// Returns whether a pod still brings an image that the Deployment wants.
pub fn still_needed(workload: &Workload, pod: &PrefetchPod) -> bool {
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
