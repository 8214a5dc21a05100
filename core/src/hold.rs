//! Whether a rollout waits for its images, and what ends that.
//!
//! A hold is written into the Deployment itself: `spec.paused`, a label by which any leader finds it, and since and until
//! when. Nothing else is remembered, so nothing can be forgotten.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::annotation::HoldUntil;
use super::contract::{HELD_LABEL, HELD_SINCE, HELD_UNTIL, HELD_VALUE, Mode};
use super::workload::Workload;

mod pause;
#[cfg(test)]
mod tests;

pub use pause::is_paused_by_user;

/// The hold that a Deployment's marks tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldMark {
    /// When it began. `None` if the mark is gone or cannot be read.
    pub since: Option<Timestamp>,
    /// When it ends at the latest. Without it the time is up.
    pub until: Option<Timestamp>,
    /// Whether the rollout does wait; if not, somebody has resumed it.
    pub paused: bool,
}

impl HoldMark {
    /// Reads a Deployment's marks; `None` without the label.
    pub fn read(deployment: &Deployment) -> Option<Self> {
        let metadata = &deployment.metadata;
        Self::from_metadata(
            metadata.labels.as_ref(),
            metadata.annotations.as_ref(),
            is_paused(deployment),
        )
    }

    /// The same of its labels and annotations.
    pub(super) fn from_metadata(
        labels: Option<&BTreeMap<String, String>>,
        annotations: Option<&BTreeMap<String, String>>,
        paused: bool,
    ) -> Option<Self> {
        if labels?.get(HELD_LABEL).map(String::as_str) != Some(HELD_VALUE) {
            return None;
        }
        let time = |key| annotations?.get(key)?.parse().ok();
        Some(Self {
            since: time(HELD_SINCE),
            until: time(HELD_UNTIL),
            paused,
        })
    }
}

/// Whether a Deployment is paused, by whomever.
fn is_paused(deployment: &Deployment) -> bool {
    let spec = deployment.spec.as_ref();
    spec.and_then(|spec| spec.paused).unwrap_or(false)
}

/// How far the clock of the replica that began a hold may be ahead of this one's.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// How long holds last at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// Where a Deployment does not say.
    pub default: SignedDuration,
    /// Whatever a Deployment says.
    pub max: SignedDuration,
}

impl HoldLimits {
    /// How long a Deployment's hold lasts at most.
    pub fn of(self, workload: &Workload) -> SignedDuration {
        let own = workload.annotations.hold_timeout.as_ref();
        own.map_or(self.default, |own| own.0).min(self.max)
    }
}

impl HoldMark {
    /// Returns whether the mark says a time at which headstart cannot have begun a hold: none, or one in the future. The limit of
    /// such a hold would be whatever the mark says.
    fn is_impossible(self, now: Timestamp) -> bool {
        let latest = now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
        self.since.is_none_or(|since| since > latest)
    }
}

/// What is known, when a write is admitted, of the images that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePresence {
    /// They are on every planned node.
    OnAllNodes,
    /// There is no node that they could be put on.
    NoEligibleNode,
    /// Neither is known.
    Unknown,
}

/// What a write that changes images does to its rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldDecision {
    /// It goes on, or stays as it is.
    Unchanged,
    /// It waits.
    Hold {
        /// When the hold began.
        since: Timestamp,
        /// When it ends at the latest.
        until: Timestamp,
    },
    /// It waited, and goes on with this write.
    Release,
}

/// Decides what a write does to a Deployment in mode [`Mode::Hold`]. `old` is the Deployment before an update.
pub fn decide(
    new: &Workload,
    old: Option<&Workload>,
    presence: ImagePresence,
    limits: HoldLimits,
    now: Timestamp,
) -> HoldDecision {
    let ours = old.and_then(|old| old.held).filter(|held| held.paused);
    // An image that no runtime would take never comes.
    let nothing_to_wait_for =
        presence != ImagePresence::Unknown || new.images.is_empty() || !new.unsupported.is_empty();
    let fresh = HoldDecision::Hold {
        since: now,
        until: now.saturating_add(limits.of(new)).unwrap_or(now),
    };
    match (ours, old) {
        // The images of a hold are changed. What is a fix goes out at once, as does what needs no pull.
        (Some(_), Some(old)) if old.rollout.failing || nothing_to_wait_for => HoldDecision::Release,
        (Some(held), _) if held.is_impossible(now) => fresh,
        // The limit counts from the first.
        (Some(held), _) => HoldDecision::Hold {
            since: held.since.unwrap_or(now),
            until: held.until.unwrap_or(now),
        },
        _ if nothing_to_wait_for || new.replicas == 0 => HoldDecision::Unchanged,
        // Somebody paused it, and it is theirs to resume. A copy of a held one, with its marks, is none of that.
        _ if new.paused && new.held.is_none() => HoldDecision::Unchanged,
        // Paused in the middle of a rollout, old and new pods would stay mixed; and a fix must not wait.
        (None, Some(old)) if !old.rollout.complete => HoldDecision::Unchanged,
        _ => fresh,
    }
}

/// How far the prefetch of a held rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nodes that the plan chose.
    pub planned: usize,
    /// Of these, those that have every image.
    pub present: usize,
    /// Those that have troubles of their own, and are not waited for.
    pub abandoned: usize,
    /// Those whose images cannot be had, as far as is known.
    pub failed: usize,
    /// Those that are not decided and may become warm.
    pub pending: usize,
    /// The API server refuses prefetch pods.
    pub refused: bool,
}

/// Why a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEndReason {
    /// The images are where they were to be.
    Warm,
    /// An image cannot be had.
    ImageFailed,
    /// There is no node to wait for.
    NoNode,
    /// Prefetch pods are refused: quota, a policy.
    Blocked,
    /// The time is up.
    Deadline,
    /// Its marks say that it began at a time that cannot be: they are not headstart's.
    ImpossibleMarks,
    /// The Deployment, or its namespace, does not ask for it any more.
    NotAsked,
    /// Holding is switched off.
    SwitchedOff,
    /// Somebody else has ended it.
    ByHand,
    /// An update that has nothing to wait for: a fix, or images that are on the nodes.
    Updated,
}

impl HoldEndReason {
    /// One word, for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Warm => "Warm",
            Self::ImageFailed => "ImageFailed",
            Self::NoNode => "NoNode",
            Self::Blocked => "Blocked",
            Self::Deadline => "Deadline",
            Self::ImpossibleMarks => "ImpossibleMarks",
            Self::NotAsked => "NotAsked",
            Self::SwitchedOff => "SwitchedOff",
            Self::ByHand => "ByHand",
            Self::Updated => "Updated",
        }
    }

    /// Whether it was decided by what is known of certain images; others would need another look.
    pub fn depends_on_images(self) -> bool {
        matches!(
            self,
            Self::Warm | Self::ImageFailed | Self::NoNode | Self::Blocked
        )
    }
}

/// How long a hold stays that nobody seems to ask for: the label of its namespace comes by another watch, and may come
/// after the Deployment.
const MODE_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// What ends a hold now, if anything does. `seen_for` is how long this process has seen the hold, by a clock that nobody sets:
/// whatever the marks say, and whoever's clock wrote them, no hold is seen for longer than the limit. `progress` is `None` while
/// there is no plan yet.
pub fn end_reason(
    workload: &Workload,
    held: HoldMark,
    mode: Mode,
    limits: HoldLimits,
    seen_for: SignedDuration,
    progress: Option<Progress>,
    now: Timestamp,
) -> Option<HoldEndReason> {
    if !held.paused {
        return Some(HoldEndReason::ByHand);
    }
    let Some(since) = held.since.filter(|_| !held.is_impossible(now)) else {
        return Some(HoldEndReason::ImpossibleMarks);
    };
    let age = now.duration_since(since).max(seen_for);
    if mode != Mode::Hold {
        return (age >= MODE_GRACE).then_some(HoldEndReason::NotAsked);
    }
    // The mark can be edited, or be from before the limit was lowered.
    if age >= limits.max || held.until.is_none_or(|until| now >= until) {
        return Some(HoldEndReason::Deadline);
    }
    if !workload.unsupported.is_empty() || workload.too_large.is_some() {
        return Some(HoldEndReason::ImageFailed);
    }
    if workload.images.is_empty() {
        return Some(HoldEndReason::Warm);
    }
    let Progress {
        planned,
        present,
        abandoned,
        failed,
        pending,
        refused,
    } = progress?;
    if planned == 0 {
        return Some(HoldEndReason::NoNode);
    }
    // A node with a fault of its own is no reason to wait, nor to stop waiting for the others.
    let counted = planned.saturating_sub(abandoned);
    let wanted = match &workload.annotations.hold_until {
        Some(HoldUntil(share)) => share.of(counted),
        None => counted,
    };
    if counted > 0 && present >= wanted {
        Some(HoldEndReason::Warm)
    } else if pending == 0 || counted.saturating_sub(failed) < wanted {
        Some(HoldEndReason::ImageFailed)
    } else if refused {
        Some(HoldEndReason::Blocked)
    } else {
        None
    }
}
