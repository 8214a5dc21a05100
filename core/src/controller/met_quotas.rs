//! The namespaces whose quotas matter: which Deployments wait there, and since when a quota may count pods that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::resource_quota::OwnPods;
use crate::time::Instant;
use crate::workload::DeploymentKey;

/// The longest time that a quota's status counts pods that are gone. The quota controller takes a second or two; until it has
/// counted, a quota that looks full may not be.
const RECOUNT: Duration = Duration::from_secs(10);

/// The namespaces in which a quota was met.
#[derive(Debug, Default)]
pub(super) struct MetQuotas(BTreeMap<String, MetQuota>);

#[derive(Debug, Default)]
pub(super) struct MetQuota {
    /// The prefetch pods at the last look.
    own: OwnPods,
    /// The time at which there were last fewer of them than before.
    fewer_since: Option<Instant>,
    /// Deployments that wait for other prefetch pods to go.
    parked: BTreeSet<DeploymentKey>,
}

impl MetQuotas {
    /// Returns a namespace whose quotas matter.
    pub(super) fn met(&mut self, namespace: &str) -> &mut MetQuota {
        self.0.entry(namespace.to_owned()).or_default()
    }

    /// Returns whether the quotas of a namespace matter.
    pub(super) fn is_met(&self, namespace: &str) -> bool {
        self.0.contains_key(namespace)
    }

    /// Forgets a namespace.
    pub(super) fn forget(&mut self, namespace: &str) {
        self.0.remove(namespace);
    }

    /// Returns whether a Deployment waits for other prefetch pods to go.
    pub(super) fn is_parked(&self, key: &DeploymentKey) -> bool {
        let met = self.0.get(&key.namespace);
        met.is_some_and(|met| met.parked.contains(key))
    }

    /// Removes and returns the Deployments of a namespace that wait.
    pub(super) fn take_parked(&mut self, namespace: &str) -> BTreeSet<DeploymentKey> {
        let met = self.0.get_mut(namespace);
        met.map(|met| std::mem::take(&mut met.parked))
            .unwrap_or_default()
    }
}

impl MetQuota {
    /// Lets a Deployment wait for other prefetch pods to go.
    pub(super) fn park(&mut self, key: &DeploymentKey) {
        self.parked.insert(key.clone());
    }

    /// Counts the prefetch pods again.
    pub(super) fn count(&mut self, own: OwnPods, now: Instant) {
        if own.stored < self.own.stored || own.unfinished < self.own.unfinished {
            self.fewer_since = Some(now);
        }
        self.own = own;
    }

    /// Returns when the status of a quota counts no pod any more that is gone, if that is not yet so.
    pub(super) fn counted_at(&self, now: Instant) -> Option<Instant> {
        let at = self.fewer_since? + RECOUNT;
        (at > now).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_may_count_a_pod_for_ten_seconds_after_it_is_gone() {
        let at = |seconds| Instant::after_start(Duration::from_secs(seconds));
        let own = |stored, unfinished| OwnPods { stored, unfinished };
        let mut met = MetQuota::default();
        met.count(own(2, 2), at(1));
        assert_eq!(met.counted_at(at(1)), None);
        met.count(own(2, 1), at(3));
        assert_eq!(met.counted_at(at(12)), Some(at(13)));
        assert_eq!(met.counted_at(at(13)), None);
        met.count(own(3, 1), at(20));
        assert_eq!(met.counted_at(at(20)), None, "one more is counted at once");
    }
}
