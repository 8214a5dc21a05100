//! The invariant of quotas: prefetch pods do not take the places that rollouts need.

use super::{Monitor, Violation, working_leader};
use crate::api_server::{Kind, Object, ObjectKey, is_finished};
use crate::cluster::Cluster;
use crate::options::Fault;
use crate::replica::Replica;

/// How long a quota may refuse a rollout's pods beside prefetch pods while a leader works, in milliseconds: until the rollout's
/// status says so, the pods are deleted, and the rollout is tried again.
const GRACE: u64 = 20_000;
/// The same with watches that are late or cut.
const LATE_GRACE: u64 = 90_000;

impl Monitor {
    /// Checks that no quota refuses a rollout's pods for long while pods of headstart are counted by it (S19). `passed` is the
    /// time since the last check.
    ///
    /// # Errors
    /// Names the rollout.
    pub(crate) fn check_quotas(
        &mut self,
        refused: &[ObjectKey],
        replicas: &[Replica],
        cluster: &mut Cluster,
        passed: u64,
    ) -> Result<(), Violation> {
        let works = working_leader(replicas, cluster).is_some();
        let is_late = [
            Fault::WatchLag,
            Fault::WatchCut,
            Fault::LostAnswers,
            Fault::WriteErrors,
        ]
        .into_iter()
        .any(|fault| cluster.options.has(fault));
        let grace = if is_late { LATE_GRACE } else { GRACE };
        let before = std::mem::take(&mut self.crowded);
        for key in refused {
            let Some(pod) = self.counted_pod(&key.namespace, cluster) else {
                continue;
            };
            let crowded = before.get(key).copied().unwrap_or(0) + if works { passed } else { 0 };
            if crowded > grace {
                let detail = format!("a quota refuses its pods for {crowded} ms beside {pod}");
                return Err(Violation::new("S19 quota", &key.name, &detail));
            }
            self.crowded.insert(key.clone(), crowded);
        }
        Ok(())
    }

    /// Returns the name of a pod of headstart that the quota of a namespace counts.
    fn counted_pod(&self, namespace: &str, cluster: &Cluster) -> Option<String> {
        let quota = cluster.api.quota.get(namespace)?;
        let is_counted = |pod: &Object| {
            self.created.contains(pod.uid()) && (quota.counts_finished || !is_finished(&pod.value))
        };
        let mut pods = cluster.api.list_in(Kind::Pod, namespace);
        let counted = pods.find(|(_, pod)| is_counted(pod));
        counted.map(|(key, _)| key.name.clone())
    }
}
