//! The failures because of which an image is not on a node, and the times at which they end a hold.

use std::time::Duration;

use crate::time::Instant;

/// The time for which an answer of the registry that refuses credentials stands before it ends a hold. The kubelet may not have
/// read a new pull secret yet, and a ServiceAccount may name its secrets only now.
const UNAUTHORIZED_STANDS: Duration = Duration::from_secs(10);
/// The same for an answer that the registry's host does not exist. A resolver may be wrong for a moment.
const HOST_NOT_FOUND_STANDS: Duration = Duration::from_secs(20);
/// The number of times in a row that the kubelet gets such an answer before it ends a hold, if that comes first.
const ATTEMPTS: u32 = 2;

/// A failure, with a class for programs and a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub kind: FailureKind,
    /// The message of the kubelet, or of the registry through it, without credentials.
    pub message: String,
    /// The kubelet waits for its next attempt. Before Kubernetes 1.32 it does not say then why the last one failed.
    pub in_backoff: bool,
}

/// Classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The registry has no such image.
    NotFound,
    /// The registry refused the credentials, or wants some.
    Unauthorized,
    /// The runtime does not take the reference.
    InvalidName,
    /// The image has no variant for the node's platform.
    WrongPlatform,
    /// The node's disk is full.
    NoSpace,
    /// The node's policy wants a signature that the image does not have.
    Signature,
    /// headstart's own image, which the prefetch pod needs, did not arrive.
    OwnImage,
    /// The node or the scheduler refused the pod, or the node threw it out.
    Rejected,
    /// The node is gone, and the pod with it.
    Lost,
    /// The pod had not finished by its deadline.
    Deadline,
    /// The registry's host does not exist, as the node's resolver says.
    HostNotFound,
    /// Anything that may pass: the network, a registry that is down, a rate limit.
    Transient,
}

impl FailureKind {
    /// For machines: stable, in the style of condition reasons.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Unauthorized => "Unauthorized",
            Self::InvalidName => "InvalidName",
            Self::WrongPlatform => "WrongPlatform",
            Self::NoSpace => "NoSpace",
            Self::Signature => "SignatureValidationFailed",
            Self::OwnImage => "OwnImage",
            Self::Rejected => "Rejected",
            Self::Lost => "Lost",
            Self::Deadline => "DeadlineExceeded",
            Self::HostNotFound => "HostNotFound",
            Self::Transient => "Transient",
        }
    }

    /// Returns whether another attempt without a change meets the same answer.
    pub fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::NotFound
                | Self::Unauthorized
                | Self::InvalidName
                | Self::WrongPlatform
                | Self::NoSpace
                | Self::Signature
        )
    }
}

/// Returns when a failure ends a hold that waits for the image, `None` if it never does. It was first seen at `first_seen`, and
/// the kubelet has met it `attempts` times in a row.
fn ends_hold_at(kind: FailureKind, first_seen: Instant, attempts: u32) -> Option<Instant> {
    match kind {
        FailureKind::Unauthorized | FailureKind::HostNotFound if attempts >= ATTEMPTS => {
            Some(first_seen)
        }
        FailureKind::Unauthorized => Some(first_seen + UNAUTHORIZED_STANDS),
        FailureKind::HostNotFound => Some(first_seen + HOST_NOT_FOUND_STANDS),
        _ => kind.is_permanent().then_some(first_seen),
    }
}

/// The answer that the kubelet gets about one image on one node, attempt by attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullAnswer {
    /// The class of the failure.
    pub kind: FailureKind,
    /// The time at which this process first saw it.
    pub first_seen: Instant,
    /// The number of attempts in a row that have met it, as far as they were seen.
    pub attempts: u32,
    in_backoff: bool,
}

impl PullAnswer {
    /// Returns the answer after a failure that is seen now; `None` if it never ends a hold.
    pub fn after(before: Option<Self>, failure: &Failure, now: Instant) -> Option<Self> {
        let new = Self {
            kind: failure.kind,
            first_seen: now,
            attempts: 1,
            in_backoff: failure.in_backoff,
        };
        let answer = match before {
            // The pause says nothing new, and perhaps nothing at all.
            Some(before) if failure.in_backoff => Self {
                in_backoff: true,
                ..before
            },
            Some(before) if before.kind == failure.kind => Self {
                attempts: before.attempts + u32::from(before.in_backoff),
                in_backoff: false,
                ..before
            },
            _ => new,
        };
        answer.ends_hold_at().map(|_| answer)
    }

    /// Returns when the answer ends a hold; `None` if it never does.
    pub fn ends_hold_at(self) -> Option<Instant> {
        ends_hold_at(self.kind, self.first_seen, self.attempts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Instant {
        Instant::after_start(Duration::from_secs(second))
    }

    /// The answer after these failures, one a second: their class, and whether the kubelet pauses.
    fn after(failures: &[(FailureKind, bool)]) -> Option<PullAnswer> {
        let mut answer = None;
        for (second, (kind, in_backoff)) in (100..).zip(failures) {
            let failure = Failure {
                kind: *kind,
                message: String::new(),
                in_backoff: *in_backoff,
            };
            answer = PullAnswer::after(answer, &failure, at(second));
        }
        answer
    }

    #[test]
    fn only_answers_that_may_be_wrong_for_a_moment_have_to_stand() {
        for (kind, once) in [
            (FailureKind::NotFound, Some(100)),
            (FailureKind::WrongPlatform, Some(100)),
            (FailureKind::Unauthorized, Some(110)),
            (FailureKind::HostNotFound, Some(120)),
            (FailureKind::Transient, None),
            (FailureKind::OwnImage, None),
        ] {
            assert_eq!(ends_hold_at(kind, at(100), 1), once.map(at), "{kind:?}");
            let twice = once.map(|_| at(100));
            assert_eq!(ends_hold_at(kind, at(100), 2), twice, "{kind:?}");
        }
    }

    #[test]
    fn an_attempt_is_new_after_the_kubelets_pause_only() {
        let unauthorized = FailureKind::Unauthorized;
        for (failures, attempts) in [
            (&[(unauthorized, false)][..], 1),
            (&[(unauthorized, false), (unauthorized, false)], 1),
            (&[(unauthorized, false), (unauthorized, true)], 1),
            (
                &[
                    (unauthorized, false),
                    (unauthorized, true),
                    (unauthorized, false),
                ],
                2,
            ),
            // A new leader sees the pause first.
            (&[(unauthorized, true), (unauthorized, false)], 2),
        ] {
            let answer = after(failures).unwrap();
            assert_eq!((answer.attempts, answer.first_seen), (attempts, at(100)));
        }
    }

    #[test]
    fn a_pause_that_does_not_say_why_keeps_the_answer() {
        let transient = FailureKind::Transient;
        let answer = after(&[
            (FailureKind::HostNotFound, false),
            (transient, true),
            (FailureKind::HostNotFound, false),
        ]);
        assert_eq!(answer.unwrap().attempts, 2);
        assert_eq!(after(&[(transient, true), (transient, false)]), None);
    }

    #[test]
    fn another_answer_counts_from_its_own_beginning() {
        let answer = after(&[
            (FailureKind::HostNotFound, false),
            (FailureKind::HostNotFound, true),
            (FailureKind::Unauthorized, false),
        ]);
        assert_eq!(answer.unwrap().first_seen, at(102));
        let gone = after(&[
            (FailureKind::HostNotFound, false),
            (FailureKind::HostNotFound, true),
            (FailureKind::Transient, false),
        ]);
        assert_eq!(gone, None);
    }
}
