//! The pauses before the controller tries something again.

use std::time::Duration;

use crate::hash::short_hash;

/// First and longest pause before a node is tried again that lost its pod. Out of pod slots, out of CPU, a drain: all of
/// these take a while to pass.
const NODE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// First and longest pause before nodes are tried again where an image failed for good. Half of the first is longer than the
/// pods that failed stay. Tags are pushed, credentials and disks are repaired by people.
const FAILED: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(3600));
/// First and longest pause after the API server refused a Deployment's pods. People change quotas and policies.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// First and longest pause before a write is sent again that failed in a way that may pass.
const WRITE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));
/// The longest pause that an API server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The number of times that a write is sent before its object waits for its next turn.
pub(super) const WRITE_ATTEMPTS: u32 = 7;
/// The number of times that a node is tried.
pub(super) const ATTEMPTS: u8 = 5;

/// Returns the pause after the pod of a node was lost for the `attempt`th time.
pub(super) fn node_delay(attempt: u8, node: &str) -> Duration {
    jittered(NODE, attempt.into(), node)
}

/// Returns the pause before a Deployment's failed nodes are tried for the `attempt`th time again.
pub(super) fn failed_delay(attempt: u32, deployment: &str) -> Duration {
    jittered(FAILED, attempt, deployment)
}

/// Returns the pause after the API server refused a Deployment's pods for the `attempt`th time.
pub(super) fn refused_delay(attempt: u32, deployment: &str) -> Duration {
    jittered(REFUSED, attempt, deployment)
}

/// Returns the pause before a write is sent for the `attempt`th time after its first; at least the pause that the API server
/// asks for.
pub(super) fn write_delay(attempt: u32, retry_after: Option<Duration>) -> Duration {
    let pause = doubled(WRITE, attempt);
    retry_after.map_or(pause, |asked| pause.max(asked.min(MAX_RETRY_AFTER)))
}

/// Doubles the pause for each attempt, and takes between half of it and all of it. The part depends on the subject alone:
/// a decision can be repeated, and a thousand nodes do not come back in one moment.
fn jittered(limits: (Duration, Duration), attempt: u32, subject: &str) -> Duration {
    doubled(limits, attempt).mul_f64(0.5 + hash_fraction(subject) / 2.0)
}

fn doubled((first, longest): (Duration, Duration), attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(longest)
}

/// Returns a number from 0 to 1 that depends on the subject alone.
pub(super) fn hash_fraction(subject: &str) -> f64 {
    let hash = short_hash([subject]);
    let bits = u32::from_str_radix(&hash[..8], 16).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ_by_node() {
        let pauses: Vec<_> = (1..=20).map(|attempt| node_delay(attempt, "n1")).collect();
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!(pauses[0] >= NODE.0 / 2 && pauses[0] <= NODE.0);
        assert!(pauses[19] >= NODE.1 / 2 && pauses[19] <= NODE.1);
        let nodes: std::collections::BTreeSet<_> =
            (0..100).map(|n| node_delay(1, &format!("n{n}"))).collect();
        assert!(nodes.len() > 90, "spread: {nodes:?}");
    }
}
