//! How long until something is tried again.

use std::time::Duration;

use headstart_core::hash::short_hash;

/// First and longest pause before a node is tried again that threw a pod out. Out of pod slots, out of CPU, a drain:
/// all of these take a while to pass.
const NODE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// First and longest pause after the API server refused a Deployment's pods for good. Quotas and policies are
/// changed by people.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// How often a node is tried in all.
pub(super) const ATTEMPTS: u8 = 5;

/// The pause after a node's pod was lost for the `attempt`th time.
pub(super) fn of_node(attempt: u8, node: &str) -> Duration {
    jittered(NODE, attempt.into(), node)
}

/// The pause after the API server refused a Deployment's pods for the `attempt`th time.
pub(super) fn of_refused(attempt: u32, deployment: &str) -> Duration {
    jittered(REFUSED, attempt, deployment)
}

/// Doubled for each attempt, up to the longest, and then between half of it and all of it: the same for the same
/// subject, so that a decision can be repeated, and another for each, so that a thousand nodes do not come back in
/// one moment.
fn jittered((first, longest): (Duration, Duration), attempt: u32, subject: &str) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let full = first.saturating_mul(1 << doublings).min(longest);
    full.mul_f64(0.5 + share(subject) / 2.0)
}

/// A number from 0 to 1 that depends on the subject alone.
pub(super) fn share(subject: &str) -> f64 {
    let hash = short_hash([subject]);
    let bits = u32::from_str_radix(&hash[..8], 16).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ_by_node() {
        let pauses: Vec<_> = (1..=20).map(|attempt| of_node(attempt, "n1")).collect();
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!(pauses[0] >= NODE.0 / 2 && pauses[0] <= NODE.0);
        assert!(pauses[19] >= NODE.1 / 2 && pauses[19] <= NODE.1);
        let nodes: std::collections::BTreeSet<_> =
            (0..100).map(|n| of_node(1, &format!("n{n}"))).collect();
        assert!(nodes.len() > 90, "spread: {nodes:?}");
    }
}
