//! Decides, when a write is admitted, whether its rollout waits.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::GateClosed;
use crate::workload::Workload;

/// The limits for the duration of holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// For a Deployment without an annotation.
    pub default: SignedDuration,
    /// For every Deployment, also for one with an annotation.
    pub max: SignedDuration,
}

impl HoldLimits {
    /// Returns the longest time for which a Deployment's hold lasts.
    pub fn of(self, workload: &Workload) -> SignedDuration {
        let own = workload.annotations.hold_timeout.as_ref();
        own.map_or(self.default, |own| own.0).min(self.max)
    }
}

/// The presence of the images of a write on nodes, as far as it is known when the write is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePresence {
    /// They are on every planned node.
    OnAllNodes,
    /// There is no node that they could be put on.
    NoEligibleNode,
    /// Neither is known.
    Unknown,
}

/// The decision about a write that changes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldDecision {
    /// It goes on, or stays as it is.
    Unchanged,
    /// It waits.
    Hold {
        /// The time at which the hold began.
        since: Timestamp,
        /// The latest time at which it ends.
        until: Timestamp,
    },
    /// It waited, and goes on with this write.
    Release,
    /// It goes on, because another client names `spec.paused` and does not pause it. The end of a hold could not tell that from
    /// a pause.
    PauseNamed,
    /// It goes on, because it is not certain that a leader would resume it.
    NotHeld {
        /// The reason.
        reason: GateClosed,
        /// It waited before.
        was_held: bool,
    },
}

impl HoldDecision {
    /// Returns the decision where the gate is closed: nothing is held, and a hold that the write would extend ends with it.
    /// `was_held` says that the Deployment is held before the write.
    #[must_use]
    pub fn with_gate(self, was_held: bool, closed: Option<GateClosed>) -> Self {
        match (self, closed) {
            (Self::Hold { .. }, Some(reason)) => Self::NotHeld { reason, was_held },
            (decision, _) => decision,
        }
    }
}

/// Decides on a write to a Deployment in mode [`Mode::Hold`](crate::api::mode::Mode::Hold). `old` is the Deployment before an
/// update; `names_pause` says that another client owns `spec.paused`, or says otherwise that it pauses.
pub fn decide(
    new: &Workload,
    old: Option<&Workload>,
    names_pause: bool,
    presence: ImagePresence,
    limits: HoldLimits,
    now: Timestamp,
) -> HoldDecision {
    let ours = old
        .and_then(|old| old.state.held)
        .filter(|held| held.paused);
    // An image that no runtime would take never comes.
    let nothing_to_wait_for = presence != ImagePresence::Unknown
        || new.images.is_empty()
        || !new.unsupported.images.is_empty();
    let fresh = HoldDecision::Hold {
        since: now,
        until: now.saturating_add(limits.of(new)).unwrap_or(now),
    };
    match (ours, old) {
        // That client wants the rollout to go on now.
        (Some(_), _) if names_pause && !new.state.paused => HoldDecision::Release,
        // The images of a hold are changed. A fix goes out at once, as does an update that needs no pull.
        (Some(_), Some(old)) if old.state.rollout.failing || nothing_to_wait_for => {
            HoldDecision::Release
        }
        (Some(held), _) if held.is_impossible(limits.max, now) => fresh,
        // The limit counts from the first.
        (Some(held), _) => HoldDecision::Hold {
            since: held.since.unwrap_or(now),
            until: held.until.unwrap_or(now),
        },
        _ if nothing_to_wait_for || new.state.replicas == 0 => HoldDecision::Unchanged,
        // Another client paused it, and resumes it. A copy of a held Deployment, with its marks, does not count.
        _ if new.state.paused && new.state.held.is_none() => HoldDecision::Unchanged,
        // Paused in the middle of a rollout, old and new pods would stay mixed; and a fix must not wait.
        (None, Some(old)) if !old.state.rollout.complete => HoldDecision::Unchanged,
        _ if names_pause && !new.state.paused => HoldDecision::PauseNamed,
        _ => fresh,
    }
}
