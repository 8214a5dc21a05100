//! Prefetch pods that the kubelet goes on with in vain: an image has failed for good, or the containers cannot be started.
//!
//! The status of a pod does not say since when that is so. The times are therefore those at which this controller saw it first,
//! and a new leader counts from its own.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::store::{DeploymentNode, PrefetchPod};
use crate::time::Instant;

/// The time for which a pod stays whose image has failed permanently. The kubelet asks the registry four times within it, so a
/// tag that is pushed a little late is found. Alerts about pods that are not ready wait for longer.
const FAILED_STAYS: Duration = Duration::from_secs(120);
/// The time for which a pod stays that has all its images and cannot start. It has done its work, and would not end by itself.
const UNSTARTED_STAYS: Duration = Duration::from_secs(10);

/// The reason why a pod is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StuckReason {
    /// An image has failed permanently.
    Failed,
    /// All images are on the node, and the containers cannot be started.
    Unstarted,
}

/// The pods that are stuck.
#[derive(Debug, Default)]
pub(super) struct StuckPods {
    /// The reason, and the time at which it was first seen, by the UID of the pod.
    by_node: BTreeMap<DeploymentNode, BTreeMap<String, (StuckReason, Instant)>>,
}

impl StuckPods {
    /// Records the pods on a node.
    pub(super) fn observe(&mut self, at: &DeploymentNode, pods: &[&PrefetchPod], now: Instant) {
        let mut before = self.by_node.remove(at).unwrap_or_default();
        let mut after = BTreeMap::new();
        for pod in pods {
            if let Some(reason) = stuck_reason(pod) {
                let known = before.remove(&pod.uid);
                let same = known.filter(|(known, _)| *known == reason);
                after.insert(pod.uid.clone(), same.unwrap_or((reason, now)));
            }
        }
        if !after.is_empty() {
            self.by_node.insert(at.clone(), after);
        }
    }

    /// Returns when a pod is to be deleted because it is stuck; `None` if it is not.
    pub(super) fn due_at(&self, at: &DeploymentNode, uid: &str) -> Option<Instant> {
        let (reason, since) = self.by_node.get(at)?.get(uid)?;
        let stays = match reason {
            StuckReason::Failed => FAILED_STAYS,
            StuckReason::Unstarted => UNSTARTED_STAYS,
        };
        Some(*since + stays)
    }
}

fn stuck_reason(pod: &PrefetchPod) -> Option<StuckReason> {
    if pod.deleting || pod.outcome.ended.is_some() {
        return None;
    }
    if pod.outcome.has_permanent_failure() {
        return Some(StuckReason::Failed);
    }
    let unstarted = pod.outcome.cannot_start && pod.outcome.all_pulled();
    unstarted.then_some(StuckReason::Unstarted)
}
