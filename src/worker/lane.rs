//! The nodes of one architecture that a Deployment's images go to: a few first, and then the others.
//!
//! A manifest that is missing and a credential that is refused show within two seconds, a pull takes far longer. So
//! a wrong tag costs a few pods on each architecture, and a right one two seconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use headstart_core::pod::status::FailureKind;

/// Plans of no more nodes than this go out at once: a pod for each costs no more than the two seconds would.
pub(super) const HANDFUL: usize = 8;
/// Pods of the first wave, on each architecture. Two, because one node may have a fault of its own.
const WAVE: usize = 2;
/// How long the first wave is watched for a definite failure.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// The first wave, and whether the others may follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// They may.
    Open,
    /// Not yet.
    Wave {
        /// How many more belong to the wave.
        room: usize,
        /// Creates of it that are not answered.
        unanswered: usize,
        /// When the last was answered.
        answered: Option<Instant>,
    },
}

impl Gate {
    fn first_wave() -> Self {
        Self::Wave {
            room: WAVE,
            unanswered: 0,
            answered: None,
        }
    }

    /// Whether the first wave is on its way, and has room for one more.
    pub(super) fn lets_wave_through(&self) -> bool {
        matches!(self, Self::Wave { room, .. } if *room > 0)
    }

    pub(super) fn sent(&mut self) {
        if let Self::Wave {
            room, unanswered, ..
        } = self
        {
            *room = room.saturating_sub(1);
            *unanswered += 1;
        }
    }

    /// A create of ours was answered; when to look again, if that was the last of the wave.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Instant> {
        if let Self::Wave {
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

    /// A pod was there before us, as after a change of leader.
    pub(super) fn found(&mut self, now: Instant) -> Option<Instant> {
        self.sent();
        self.answered(now)
    }

    /// Where nothing of the wave is left to send.
    fn opens_at(&self) -> Option<Instant> {
        match self {
            Self::Wave {
                room: 0,
                unanswered: 0,
                answered: Some(answered),
            } => Some(*answered + PAUSE),
            _ => None,
        }
    }

    /// Opens if the wave has been watched for long enough.
    pub(super) fn look(&mut self, now: Instant) {
        if self.opens_at().is_some_and(|at| now >= at) {
            *self = Self::Open;
        }
    }
}

/// The nodes of one architecture.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) architecture: Box<str>,
    /// Nodes to send a pod to; some may have been decided meanwhile.
    pub(super) ready: VecDeque<Arc<str>>,
    pub(super) gate: Gate,
    pub(super) tally: Tally,
}

/// What is known of a lane's nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Nodes that have every image.
    pub(super) warm: usize,
    /// Nodes where an image failed that would fail on others too.
    pub(super) failing: usize,
    /// Of these, those where it would fail on nodes of the same architecture only.
    pub(super) platform: usize,
}

/// How far a failure of one node speaks for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not at all.
    Node,
    /// For those of the same architecture.
    Architecture,
    /// For all.
    Plan,
}

/// How far a definite failure speaks for other nodes.
pub(super) fn reach(kind: FailureKind) -> Reach {
    match kind {
        FailureKind::WrongPlatform => Reach::Architecture,
        FailureKind::NotFound
        | FailureKind::Unauthorized
        | FailureKind::InvalidName
        | FailureKind::Signature => Reach::Plan,
        FailureKind::NoSpace
        | FailureKind::OwnImage
        | FailureKind::Rejected
        | FailureKind::Lost
        | FailureKind::Deadline
        | FailureKind::Transient => Reach::Node,
    }
}

impl Lane {
    pub(super) fn new(architecture: &str, in_waves: bool) -> Self {
        Self {
            architecture: architecture.into(),
            ready: VecDeque::new(),
            gate: if in_waves {
                Gate::first_wave()
            } else {
                Gate::Open
            },
            tally: Tally::default(),
        }
    }
}

/// Whether a definite failure stops a lane. A node that has everything proves that it can be had on its architecture:
/// what failed elsewhere is then that node's own trouble. And a failure that heals, because the kubelet goes on trying the
/// few pods there are, lets the rest go on.
pub(super) fn is_stopped(lane: Tally, all: impl IntoIterator<Item = Tally>) -> bool {
    if lane.failing > 0 && lane.warm == 0 {
        return true;
    }
    let (mut general, mut warm) = (0, 0);
    for tally in all {
        general += tally.failing - tally.platform;
        warm += tally.warm;
    }
    general > 0 && warm == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rest_follows_two_seconds_after_the_last_of_the_wave_was_created() {
        let mut gate = Gate::first_wave();
        for _ in 0..WAVE {
            assert!(gate.lets_wave_through());
            gate.sent();
        }
        assert!(!gate.lets_wave_through());
        assert_eq!(gate.answered(Instant::now()), None, "one is unanswered");
        tokio::time::advance(Duration::from_secs(1)).await;
        let opens = gate.answered(Instant::now());
        assert_eq!(opens, Some(Instant::now() + PAUSE));
        gate.look(Instant::now());
        assert!(!gate.lets_wave_through());
        tokio::time::advance(PAUSE).await;
        gate.look(Instant::now());
        assert_eq!(gate, Gate::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_counts_the_pods_it_finds_as_the_wave() {
        let mut gate = Gate::first_wave();
        assert_eq!(gate.found(Instant::now()), None);
        assert_eq!(
            gate.found(Instant::now()),
            Some(Instant::now() + PAUSE),
            "none is sent a second time"
        );
        assert!(!gate.lets_wave_through());
    }

    #[test]
    fn a_failure_stops_what_it_speaks_for_until_one_node_proves_it_wrong() {
        let failing = Tally {
            failing: 1,
            ..Tally::default()
        };
        let platform = Tally {
            platform: 1,
            ..failing
        };
        let warm = Tally {
            warm: 1,
            ..Tally::default()
        };
        let idle = Tally::default();
        assert!(is_stopped(idle, [idle, failing]), "not found stops all");
        assert!(!is_stopped(idle, [idle, platform]));
        assert!(is_stopped(platform, [warm, platform]));
        assert!(is_stopped(failing, [failing, warm]), "none of its kind");
        let mixed = Tally { warm: 1, ..failing };
        assert!(!is_stopped(mixed, [mixed, idle]) && !is_stopped(idle, [mixed, idle]));
        assert!(!is_stopped(idle, [idle, idle]));
    }
}
