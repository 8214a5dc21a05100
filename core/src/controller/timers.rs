//! Timers as data: one deadline for each key. The caller asks for the next one and comes back when it is due.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::DeploymentNode;
use crate::time::Instant;
use crate::workload::DeploymentKey;

/// The work that is due when the time has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKey {
    /// Create a pod again whose create failed in a way that may pass.
    CreateRetry(DeploymentNode),
    /// Try a node again whose pod was lost.
    PullRetry(DeploymentNode),
    /// Try the nodes again where an image failed for good.
    FailedRetry(DeploymentKey),
    /// Take a kubelet for silent that has not acknowledged a pod.
    Silence(DeploymentNode),
    /// Stop waiting for the watch to show a created pod.
    Expectation(DeploymentNode),
    /// Have no hold of another namespace wait behind a pull without progress.
    PullQuiet(DeploymentNode),
    /// Lend the slot of a pull without progress to another.
    PullStalled(DeploymentNode),
    /// Delete a pod again, or forget that its deletion was asked for.
    Delete(DeploymentNode),
    /// Send to the nodes of an architecture group whose canary was watched for long enough.
    CanaryDone(DeploymentKey, usize),
    /// Send again where the API server refused pods.
    RefusedUntil(DeploymentKey),
    /// Send again in a namespace whose quota counted pods that were gone.
    QuotaRecount(String),
    /// List the rollout's own starting pods.
    ListStarting(DeploymentKey),
    /// Send to the nodes that were deferred.
    DeferralDone(DeploymentKey),
    /// Look for images that are to be pulled again.
    Refresh(DeploymentKey),
    /// Delete pods that are no longer needed, or forget a finished prefetch.
    Gc(DeploymentKey),
    /// Go on without reads that wait for a place.
    Lookups,
    /// Forget old counts of pods.
    PodCounts,
    /// Check a hold.
    Hold(DeploymentKey),
}

/// The deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_key: BTreeMap<TimerKey, Instant>,
    by_time: BTreeSet<(Instant, TimerKey)>,
}

impl Timers {
    /// Sets a timer, in place of the one by this key.
    pub(super) fn set(&mut self, key: TimerKey, at: Instant) {
        self.stop(&key);
        self.by_time.insert((at, key.clone()));
        self.by_key.insert(key, at);
    }

    /// Sets a timer unless the one by this key is due earlier.
    pub(super) fn set_at_latest(&mut self, key: TimerKey, at: Instant) {
        if self.by_key.get(&key).is_none_or(|earlier| at < *earlier) {
            self.set(key, at);
        }
    }

    /// Stops a timer, if it is set.
    pub(super) fn stop(&mut self, key: &TimerKey) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    /// Returns when the next timer is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Removes and returns the first timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<TimerKey> {
        let due = self.by_time.first().is_some_and(|(at, _)| *at <= now);
        let (_, key) = due.then(|| self.by_time.pop_first())??;
        self.by_key.remove(&key);
        Some(key)
    }

    /// Returns whether a timer is set.
    pub(super) fn is_set(&self, key: &TimerKey) -> bool {
        self.by_key.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> TimerKey {
        TimerKey::Hold(DeploymentKey {
            namespace: "shop".into(),
            name: name.into(),
        })
    }

    fn at(second: u64) -> Instant {
        Instant::after_start(Duration::from_secs(second))
    }

    #[test]
    fn a_key_has_one_deadline_the_one_that_was_set_last() {
        let mut timers = Timers::default();
        timers.set(key("web"), at(5));
        timers.set(key("web"), at(9));
        timers.set_at_latest(key("web"), at(12));
        assert_eq!(timers.next_timeout(), Some(at(9)));
        timers.set_at_latest(key("web"), at(7));
        assert_eq!(timers.pop_due(at(6)), None);
        assert_eq!(timers.pop_due(at(7)), Some(key("web")));
        assert_eq!(
            (timers.pop_due(at(99)), timers.next_timeout()),
            (None, None)
        );
    }

    #[test]
    fn timers_are_due_in_the_order_of_their_deadlines() {
        let mut timers = Timers::default();
        for (name, second) in [("a", 3), ("b", 1), ("c", 2)] {
            timers.set(key(name), at(second));
        }
        timers.stop(&key("c"));
        assert!(!timers.is_set(&key("c")));
        assert_eq!(timers.pop_due(at(9)), Some(key("b")));
        assert_eq!(timers.pop_due(at(9)), Some(key("a")));
        assert_eq!(timers.next_timeout(), None);
    }
}
