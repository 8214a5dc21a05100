//! The canary: on each architecture a few pods are created first, and watched, before the others follow.
//!
//! A missing manifest and refused credentials show within two seconds; a pull takes far longer. A wrong tag therefore
//! costs a few pods on each architecture, and a right one costs two seconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::pod::status::FailureKind;
use crate::time::Instant;

/// Plans of no more nodes than this have no canary: a pod for each costs no more than the two seconds would.
pub(super) const CANARY_THRESHOLD: usize = 8;
/// Pods of the canary, on each architecture. Two, because one node may have a fault of its own.
const CANARY_PODS: usize = 2;
/// The time for which the canary is watched for a permanent failure.
pub(super) const CANARY_WATCH: Duration = Duration::from_secs(2);

/// The gate for pods beyond the canary.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CanaryGate {
    /// They may.
    Open,
    /// Not yet: the canary is being created or watched.
    Canary {
        /// The number of pods of the canary that are still to be created.
        room: usize,
        /// Creates of the canary without an answer.
        unanswered: usize,
        /// The time at which the last create was answered.
        answered: Option<Instant>,
    },
}

impl CanaryGate {
    pub(super) fn canary() -> Self {
        Self::Canary {
            room: CANARY_PODS,
            unanswered: 0,
            answered: None,
        }
    }

    /// Returns whether a pod of the canary is still to be created.
    pub(super) fn allows_canary(&self) -> bool {
        matches!(self, Self::Canary { room, .. } if *room > 0)
    }

    pub(super) fn on_create_sent(&mut self) {
        if let Self::Canary {
            room, unanswered, ..
        } = self
        {
            *room = room.saturating_sub(1);
            *unanswered += 1;
        }
    }

    /// Records that a create was answered. Returns when the gate opens, if that was the last of the canary.
    pub(super) fn on_create_finished(&mut self, now: Instant) -> Option<Instant> {
        if let Self::Canary {
            unanswered,
            answered,
            ..
        } = self
        {
            *unanswered = unanswered.saturating_sub(1);
            *answered = Some(now);
        }
        self.opens_at()
    }

    /// Counts a pod that an earlier leader created.
    pub(super) fn on_existing_pod(&mut self, now: Instant) -> Option<Instant> {
        self.on_create_sent();
        self.on_create_finished(now)
    }

    /// Returns when the gate opens; `None` while pods of the canary are to be created or answered.
    fn opens_at(&self) -> Option<Instant> {
        match self {
            Self::Canary {
                room: 0,
                unanswered: 0,
                answered: Some(answered),
            } => Some(*answered + CANARY_WATCH),
            _ => None,
        }
    }

    /// Opens the gate if the canary was watched for long enough.
    pub(super) fn update(&mut self, now: Instant) {
        if self.opens_at().is_some_and(|at| now >= at) {
            *self = Self::Open;
        }
    }
}

/// The nodes of one architecture.
#[derive(Debug)]
pub(super) struct ArchGroup {
    pub(super) architecture: Box<str>,
    /// Nodes that a pod is to be created for. The state of some may have changed since.
    pub(super) ready: VecDeque<Arc<str>>,
    pub(super) gate: CanaryGate,
    pub(super) counts: Counts,
}

/// Counts of nodes by the state of their images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Nodes that have all images.
    pub(super) present: usize,
    /// Nodes where an image failed that fails on other nodes too.
    pub(super) failing: usize,
    /// Of these, those where it fails on nodes of the same architecture only.
    pub(super) platform: usize,
}

/// The nodes that a failure on one node holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureScope {
    /// This node only.
    Node,
    /// All nodes of its architecture.
    Architecture,
    /// All nodes of the plan.
    Plan,
}

/// Returns the nodes that a permanent failure holds for.
pub(super) fn failure_scope(kind: FailureKind) -> FailureScope {
    match kind {
        FailureKind::WrongPlatform => FailureScope::Architecture,
        FailureKind::NotFound
        | FailureKind::Unauthorized
        | FailureKind::InvalidName
        | FailureKind::Signature => FailureScope::Plan,
        FailureKind::NoSpace
        | FailureKind::OwnImage
        | FailureKind::Rejected
        | FailureKind::Lost
        | FailureKind::Deadline
        | FailureKind::HostNotFound
        | FailureKind::Transient => FailureScope::Node,
    }
}

impl ArchGroup {
    pub(super) fn new(architecture: &str, with_canary: bool) -> Self {
        Self {
            architecture: architecture.into(),
            ready: VecDeque::new(),
            gate: if with_canary {
                CanaryGate::canary()
            } else {
                CanaryGate::Open
            },
            counts: Counts::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Instant {
        Instant::after_start(Duration::from_secs(second))
    }

    #[test]
    fn the_rest_follows_two_seconds_after_the_last_of_the_canary_was_created() {
        let mut gate = CanaryGate::canary();
        for _ in 0..CANARY_PODS {
            assert!(gate.allows_canary());
            gate.on_create_sent();
        }
        assert!(!gate.allows_canary());
        assert_eq!(gate.on_create_finished(at(0)), None, "one is unanswered");
        assert_eq!(gate.on_create_finished(at(1)), Some(at(1) + CANARY_WATCH));
        gate.update(at(1));
        assert!(!gate.allows_canary());
        gate.update(at(1) + CANARY_WATCH);
        assert_eq!(gate, CanaryGate::Open);
    }

    #[test]
    fn a_new_leader_counts_the_pods_it_finds_as_the_canary() {
        let mut gate = CanaryGate::canary();
        assert_eq!(gate.on_existing_pod(at(0)), None);
        let opens = gate.on_existing_pod(at(0));
        assert_eq!(
            opens,
            Some(at(0) + CANARY_WATCH),
            "none is sent a second time"
        );
        assert!(!gate.allows_canary());
    }
}
