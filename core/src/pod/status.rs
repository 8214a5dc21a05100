//! Reads the status of a prefetch pod: the result for each image.
//!
//! Not its exit code: the kubelet pulls before it starts a container, so any sign that one was created,
//! even one that failed to start, proves the pull.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::jiff::Timestamp;

use super::name::image_index;
use crate::image::ImageRef;

#[cfg(test)]
mod tests;

pub use super::failure::{Failure, FailureKind, PullAnswer};
use super::message::{classify, redact, refers_to};

/// The reasons for which a container waits whose image is on the node. In the kubelet's startContainer the pull comes before
/// each of these, and that of image volumes before it.
const START_FAILURES: [&str; 7] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
    "RunContainerError",
    "CrashLoopBackOff",
];

/// The status of one image on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageStatus {
    /// Not decided yet.
    Pending,
    /// On the node.
    Pulled,
    /// The registry or the node refused it.
    Failed(Failure),
    /// The node refused the pod, threw it out or is gone: it says nothing of the image.
    Rejected(Failure),
}

/// The status of a pod, image by image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodStatusSummary {
    /// In the order of the workload's images.
    pub images: Vec<ImageStatus>,
    /// The time at which the pod ended; `None` while it has not.
    pub ended: Option<Timestamp>,
    /// The kubelet has seen the pod.
    pub acknowledged: bool,
    /// A container cannot be started, and none runs.
    pub cannot_start: bool,
}

impl PodStatusSummary {
    /// Returns whether every image is present or has failed permanently.
    pub fn is_final(&self) -> bool {
        self.images.iter().all(|image| match image {
            ImageStatus::Pending => false,
            ImageStatus::Pulled | ImageStatus::Rejected(_) => true,
            ImageStatus::Failed(failure) => self.ended.is_some() || failure.kind.is_permanent(),
        })
    }

    /// Returns whether an image has failed permanently.
    pub fn has_permanent_failure(&self) -> bool {
        self.images.iter().any(|image| match image {
            ImageStatus::Failed(failure) => failure.kind.is_permanent(),
            _ => false,
        })
    }

    /// Returns whether every image is on the node.
    pub fn all_pulled(&self) -> bool {
        self.images
            .iter()
            .all(|image| matches!(image, ImageStatus::Pulled))
    }
}

/// Reads a prefetch pod's status. `own_image` is headstart's, to tell its failures from the user's.
pub fn summarize(pod: &Pod, own_image: &str) -> PodStatusSummary {
    let count = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let Some(status) = pod.status.as_ref() else {
        return PodStatusSummary {
            images: vec![ImageStatus::Pending; count],
            ..PodStatusSummary::default()
        };
    };
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let init = status
        .init_container_statuses
        .as_deref()
        .unwrap_or_default();
    let own_image = own_image.parse().ok();
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let by_container = |index: usize| {
        containers
            .iter()
            .find(|c| image_index(&c.name) == Some(index))
            .map_or(ImageStatus::Pending, |c| {
                of_container(c, own_image.as_ref())
            })
    };
    let lost = node_lost(status);
    // The init container runs headstart's own image; nothing else is tried until it arrived.
    let blocked = init
        .iter()
        .map(|c| of_container(c, own_image.as_ref()))
        .find(|o| matches!(o, ImageStatus::Failed(_)))
        .or_else(|| unschedulable(status));
    let images = (0..count)
        .map(by_container)
        .map(|image| match (image, &blocked) {
            _ if lost.is_some() => lost.clone().unwrap_or(ImageStatus::Pending),
            (ImageStatus::Pending, Some(blocked)) => blocked.clone(),
            (ImageStatus::Pending, None) if over => {
                ended_without(status.reason.as_deref(), status.message.as_deref())
            }
            (image, _) => image,
        })
        .collect();
    let ended = over.then(|| {
        let finished = containers
            .iter()
            .filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
            .map(|time| time.0)
            .max();
        finished
            .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    });
    PodStatusSummary {
        images,
        ended,
        acknowledged: status.start_time.is_some() || over || !containers.is_empty(),
        cannot_start: !over && cannot_start(containers),
    }
}

/// Returns whether a container waits that could not be started, and none runs.
fn cannot_start(containers: &[ContainerStatus]) -> bool {
    let states = || containers.iter().filter_map(|c| c.state.as_ref());
    let waiting = |reason: &str| START_FAILURES.contains(&reason);
    states().all(|state| state.running.is_none())
        && states().any(|state| {
            let reason = state.waiting.as_ref().and_then(|w| w.reason.as_deref());
            reason.is_some_and(waiting)
        })
}

/// Returns the status of the images of a pod whose node does not exist any more, and its images with it.
fn node_lost(status: &PodStatus) -> Option<ImageStatus> {
    let collected = condition(status, "DisruptionTarget", "True")
        .filter(|c| c.reason.as_deref() == Some("DeletionByPodGC"));
    let unknown =
        status.phase.as_deref() == Some("Unknown") || status.reason.as_deref() == Some("NodeLost");
    let message = match collected {
        Some(condition) => condition.message.as_deref(),
        None if unknown => status.message.as_deref(),
        None => return None,
    };
    Some(ImageStatus::Rejected(Failure {
        kind: FailureKind::Lost,
        message: redact(message.unwrap_or("the node does not answer any more")),
        in_backoff: false,
    }))
}

/// The scheduler found that the pod does not fit its node. Only pods that are pinned by affinity pass it.
fn unschedulable(status: &PodStatus) -> Option<ImageStatus> {
    let condition = condition(status, "PodScheduled", "False")?;
    (condition.reason.as_deref() == Some("Unschedulable")).then(|| {
        let message = condition.message.as_deref().unwrap_or_default();
        rejected("Unschedulable", message)
    })
}

fn condition<'a>(status: &'a PodStatus, type_: &str, is: &str) -> Option<&'a PodCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == type_ && condition.status == is)
}

fn of_container(container: &ContainerStatus, own_image: Option<&ImageRef>) -> ImageStatus {
    let Some(state) = container.state.as_ref() else {
        return ImageStatus::Pending;
    };
    // The kubelet invents a terminated state for containers of a pod that it never started, without an image.
    if state.running.is_some() || (state.terminated.is_some() && !container.image_id.is_empty()) {
        return ImageStatus::Pulled;
    }
    let Some(waiting) = state.waiting.as_ref() else {
        return ImageStatus::Pending;
    };
    let message = waiting.message.as_deref().unwrap_or_default();
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let kind = match reason {
        "" | "ContainerCreating" | "PodInitializing" => return ImageStatus::Pending,
        reason if START_FAILURES.contains(&reason) => return ImageStatus::Pulled,
        _ if own_image.is_some_and(|own| refers_to(message, own)) => FailureKind::OwnImage,
        "InvalidImageName" => FailureKind::InvalidName,
        "SignatureValidationFailed" => FailureKind::Signature,
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "ErrImageNeverPull" => classify(message),
        // Any other error stands in the place of the reason.
        other => {
            return failed(FailureKind::Transient, &format!("{other}: {message}"));
        }
    };
    ImageStatus::Failed(Failure {
        kind,
        message: redact(message),
        in_backoff: reason == "ImagePullBackOff",
    })
}

/// A pod that ended while this image was still undecided.
fn ended_without(reason: Option<&str>, message: Option<&str>) -> ImageStatus {
    let message = message.unwrap_or_default();
    match reason.unwrap_or_default() {
        "DeadlineExceeded" => failed(FailureKind::Deadline, message),
        reason => rejected(reason, message),
    }
}

fn rejected(reason: &str, message: &str) -> ImageStatus {
    let parts: Vec<&str> = [reason, message]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let message = match parts.as_slice() {
        [] => "the pod ended before the image was pulled".to_owned(),
        parts => redact(&parts.join(": ")),
    };
    ImageStatus::Rejected(Failure {
        kind: FailureKind::Rejected,
        message,
        in_backoff: false,
    })
}

fn failed(kind: FailureKind, message: &str) -> ImageStatus {
    ImageStatus::Failed(Failure {
        kind,
        message: redact(message),
        in_backoff: false,
    })
}
