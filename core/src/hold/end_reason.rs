//! Decides when a hold ends, and why.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::HoldLimits;
use crate::api::annotations::HoldUntil;
use crate::api::hold_mark::HoldMark;
use crate::api::mode::Mode;
use crate::workload::Workload;

/// The progress of the prefetch of a held rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nodes that the plan chose.
    pub planned: usize,
    /// Of these, those that have every image.
    pub present: usize,
    /// Those that have troubles of their own or do not answer, and are not waited for.
    pub abandoned: usize,
    /// Those whose images cannot be had, as far as is known.
    pub failed: usize,
    /// Those that are not decided and may become warm.
    pub pending: usize,
    /// The API server refuses prefetch pods.
    pub refused: bool,
}

/// The reason why a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEndReason {
    /// The images are on the nodes for which the hold waits.
    Warm,
    /// An image cannot be had.
    ImageFailed,
    /// There is no node to wait for, or none that answers.
    NoNode,
    /// Prefetch pods are refused: quota, a policy.
    Blocked,
    /// The time is up.
    Deadline,
    /// Its marks say times that headstart does not set.
    ImpossibleMarks,
    /// The Deployment, or its namespace, does not ask for it any more.
    NotAsked,
    /// Holding is switched off.
    SwitchedOff,
    /// headstart's webhook configuration is deleted: it is being removed.
    Unregistered,
    /// Another client has ended it.
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
            Self::Unregistered => "Unregistered",
            Self::ByHand => "ByHand",
            Self::Updated => "Updated",
        }
    }

    /// Returns whether the reason depends on the images: other images need another decision.
    pub fn depends_on_images(self) -> bool {
        matches!(
            self,
            Self::Warm | Self::ImageFailed | Self::NoNode | Self::Blocked
        )
    }
}

/// The time for which a hold stays without a label that asks for it. The label of its namespace comes by another watch,
/// and may come after the Deployment.
pub const MODE_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// Returns the time until a hold ends in any case. It ends at the earliest of these: `until`, `since` plus the limit, and the
/// time since which it is seen plus the limit. Without an `until` there is none left.
pub fn time_left(
    held: HoldMark,
    max: SignedDuration,
    seen_for: SignedDuration,
    now: Timestamp,
) -> SignedDuration {
    let left = |at: Timestamp| at.duration_since(now);
    let by_mark = held.until.map_or(SignedDuration::ZERO, left);
    let by_limit = held.since.and_then(|since| since.checked_add(max).ok());
    let by_sight = max.saturating_sub(seen_for);
    by_mark.min(by_limit.map_or(by_sight, left)).min(by_sight)
}

/// Returns whether a hold is overdue: the leader should have ended it longer than `grace` ago, so another actor ends it. Marks
/// that headstart does not set are overdue at once.
pub fn is_overdue(
    held: HoldMark,
    max: SignedDuration,
    grace: SignedDuration,
    now: Timestamp,
) -> bool {
    let left = time_left(held, max, SignedDuration::ZERO, now);
    held.until.is_none() || held.is_impossible(max, now) || left.saturating_add(grace).is_negative()
}

/// Returns the reason that ends a hold now, if there is one. `seen_for` is the time for which this process has seen the hold,
/// by a clock that cannot be set. So no hold lasts longer than the limit from then on, even if the marks or the clock that
/// wrote them are wrong. `progress` is `None` while there is no plan yet.
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
    let Some(since) = held.since.filter(|_| !held.is_impossible(limits.max, now)) else {
        return Some(HoldEndReason::ImpossibleMarks);
    };
    let age = now.duration_since(since).max(seen_for);
    if mode != Mode::Hold && age >= MODE_GRACE {
        return Some(HoldEndReason::NotAsked);
    }
    if time_left(held, limits.max, seen_for, now) <= SignedDuration::ZERO {
        return Some(HoldEndReason::Deadline);
    }
    if mode != Mode::Hold {
        return None;
    }
    if !workload.unsupported.images.is_empty() || workload.too_large.is_some() {
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
    if counted == 0 {
        return Some(HoldEndReason::NoNode);
    }
    let wanted = match &workload.annotations.hold_until {
        Some(HoldUntil(share)) => share.of(counted),
        None => counted,
    };
    if present >= wanted {
        Some(HoldEndReason::Warm)
    } else if pending == 0 || counted.saturating_sub(failed) < wanted {
        Some(HoldEndReason::ImageFailed)
    } else if refused {
        Some(HoldEndReason::Blocked)
    } else {
        None
    }
}
