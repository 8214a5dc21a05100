//! Decides whether a replica that stops is the last one.

use std::time::Duration;

/// The time for which a replica that stops waits for another to take a Lease without a holder. A standby sees the release by
/// its watch, and takes it in milliseconds.
pub const SUCCESSOR_TIMEOUT: Duration = Duration::from_secs(3);

/// The Lease, as a replica that stops sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Another replica holds it.
    pub is_theirs: bool,
    /// It changed since the first look.
    pub has_changed: bool,
    /// The time for which it has not changed, by this replica's clock.
    pub unchanged_for: Duration,
    /// Its duration.
    pub duration: Duration,
}

/// The replica that resumes the held rollouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// Another replica took or renewed the Lease. It lives.
    Other,
    /// There is none: this replica is the last.
    None,
    /// Neither is certain yet.
    Unknown,
}

/// Returns which replica resumes the held rollouts, once this one has given up the Lease.
pub fn successor(lease: LeaseView) -> Successor {
    let limit = if lease.is_theirs {
        lease.duration
    } else {
        SUCCESSOR_TIMEOUT
    };
    if lease.is_theirs && lease.has_changed {
        Successor::Other
    } else if lease.unchanged_for >= limit {
        Successor::None
    } else {
        Successor::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_the_last_if_no_other_takes_or_renews_the_lease_in_time() {
        let duration = Duration::from_secs(6);
        let view = |is_theirs, has_changed, seconds| {
            successor(LeaseView {
                is_theirs,
                has_changed,
                unchanged_for: Duration::from_secs(seconds),
                duration,
            })
        };
        assert_eq!(view(false, false, 2), Successor::Unknown);
        assert_eq!(view(false, false, 3), Successor::None);
        // Released by another replica that stops.
        assert_eq!(view(false, true, 2), Successor::Unknown);
        assert_eq!(view(false, true, 3), Successor::None);
        // Its holder may be dead.
        assert_eq!(view(true, false, 5), Successor::Unknown);
        assert_eq!(view(true, false, 6), Successor::None);
        assert_eq!(view(true, true, 0), Successor::Other);
    }
}
