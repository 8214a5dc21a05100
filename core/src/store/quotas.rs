//! The room that quotas leave in a namespace, from its quotas, its prefetch pods and its rollouts.

use super::Store;
use super::by_namespace::ObjectKey;
use super::cache::{Scope, Update};
use super::change::Change;
use crate::resource_quota::{Demand, Footprint, OwnPods, PodQuota, QuotaRoom};
use crate::workload::DeploymentKey;

impl Store {
    /// Returns whether a namespace has a quota that counts prefetch pods, or a rollout that a quota stops.
    pub fn has_quota(&self, namespace: &str) -> bool {
        let mut quotas = self.quotas.of(namespace);
        quotas.any(|(_, quota)| quota.is_relevant()) || self.refused_by_quota(namespace).is_some()
    }

    /// Returns whether a quota of a namespace counts pods that have ended.
    pub fn counts_finished_pods(&self, namespace: &str) -> bool {
        let mut quotas = self.quotas.of(namespace);
        quotas.any(|(_, quota)| quota.counts_finished_pods())
    }

    /// Returns a Deployment of a namespace that a quota keeps from creating pods, until its rollout is over.
    pub fn refused_by_quota(&self, namespace: &str) -> Option<&DeploymentKey> {
        self.deployments.refused_by_quota(namespace)
    }

    /// Returns the prefetch pods of a namespace.
    pub fn own_pods(&self, namespace: &str) -> OwnPods {
        self.pods.count_in(namespace)
    }

    /// Returns the Deployments of a namespace that have prefetch pods.
    pub fn deployments_with_pods_in(&self, namespace: &str) -> Vec<DeploymentKey> {
        self.pods.deployments_in(namespace).cloned().collect()
    }

    /// Returns the room for one more prefetch pod like this, while so many are being created.
    pub fn quota_room(&self, namespace: &str, one: Footprint, creating: u64) -> QuotaRoom {
        if let Some(refused) = self.refused_by_quota(namespace) {
            return QuotaRoom::None(format!(
                "a quota keeps the rollout of {refused} from creating its pods"
            ));
        }
        let demand = Demand {
            one,
            own: self.own_pods(namespace),
            creating,
            rollouts: self.deployments.pods_to_come(namespace),
        };
        let rooms = self.quotas.of(namespace);
        let rooms = rooms.map(|(name, quota)| quota.room(name, &demand));
        rooms.fold(QuotaRoom::Free, |least, room| match (&least, &room) {
            (QuotaRoom::None(_), _) | (_, QuotaRoom::Free) => least,
            _ => room,
        })
    }

    /// Applies an update of a quota.
    pub fn apply_quota(
        &mut self,
        scope: &Scope,
        update: Update<ObjectKey, PodQuota>,
    ) -> Vec<Change> {
        let update = match update {
            Update::Applied(key, quota) => {
                let own = self.own_pods(&key.namespace);
                Update::Applied(key, quota.seen_with(own))
            }
            update => update,
        };
        let changed = self.quotas.apply(scope, update).into_iter();
        changed.map(Change::Quota).collect()
    }
}
