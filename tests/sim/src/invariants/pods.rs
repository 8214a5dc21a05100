//! Invariants of prefetch pods that are in the way: on nodes that are about to go or short of disk, and with failures that stand.

use headstart_core::pod::node_of;
use headstart_core::pod::status::summarize;
use headstart_core::scheduling::node::NodeInfo;

use super::{Monitor, Violation, working_leader};
use crate::api_server::{Kind, Object, ObjectKey, is_finished};
use crate::cluster::Cluster;
use crate::options::Fault;
use crate::replica::Replica;

/// The time that a leader has for a delete with its retries, in milliseconds.
const GRACE: u64 = 90_000;
/// The time for which a pod may stay whose image has failed for good, in milliseconds.
const FAILED_STAYS: u64 = 120_000;

impl Monitor {
    /// Checks that no unfinished prefetch pod stays on a node that is about to go (S17), none whose image has failed for good
    /// (S18), and no prefetch pod at all on a node that is short of disk (S19). `passed` is the time since the last check.
    ///
    /// # Errors
    /// A pod has stayed for too long while a leader worked.
    pub(crate) fn check_pods_in_the_way(
        &mut self,
        replicas: &[Replica],
        cluster: &Cluster,
        passed: u64,
    ) -> Result<(), Violation> {
        let mut before = std::mem::take(&mut self.in_the_way);
        let leader = working_leader(replicas, cluster);
        let term = leader.and_then(|leader| leader.term.as_ref());
        // Each leader counts from its own beginning, and one that lags counts late.
        let faults = [Fault::WatchLag, Fault::WatchCut, Fault::Stop];
        let lags = faults.into_iter().any(|fault| cluster.options.has(fault));
        let Some(term) = term.filter(|_| !lags) else {
            return Ok(());
        };
        for (key, pod) in cluster.api.list(Kind::Pod) {
            let Some((invariant, limit)) = limit(pod, cluster) else {
                continue;
            };
            let id = (pod.uid().to_owned(), term.began, invariant);
            let since = before.remove(&id).unwrap_or(0) + passed;
            if since > limit {
                let detail = format!("it has stayed for {} s", since / 1000);
                return Err(Violation::new(invariant, &key.name, &detail));
            }
            self.in_the_way.insert(id, since);
        }
        Ok(())
    }
}

/// Returns the invariant that a pod breaks if it stays longer than the limit.
fn limit(pod: &Object, cluster: &Cluster) -> Option<(&'static str, u64)> {
    let ours = headstart_core::pod::is_prefetch_pod(pod.pod());
    let terminating = pod.value["metadata"]["deletionTimestamp"].is_string();
    if !ours || terminating {
        return None;
    }
    let node = ObjectKey::new(Kind::Node, "", node_of(pod.pod())?);
    let node = cluster.api.get(&node).ok()?;
    let node = NodeInfo::from_node(node.node())?;
    if node.has_disk_pressure() {
        return Some(("S19 disk pressure", GRACE));
    }
    if is_finished(&pod.value) {
        return None;
    }
    if node.is_leaving() {
        return Some(("S17 leaving", GRACE));
    }
    let failed = summarize(pod.pod(), "").has_permanent_failure();
    failed.then_some(("S18 failed", FAILED_STAYS + GRACE))
}
