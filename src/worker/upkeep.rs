//! What is done from time to time: old pods deleted, images refreshed, what is over forgotten, gauges set.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, info};

use super::desk::Desk;
use super::expectations::Expectation;
use super::sweep::due_at;
use crate::cluster::Place;
use crate::cluster::verdict::{Verdict, judge};
use crate::metrics::QueueStats;
use headstart_core::workload::{DeploymentKey, Workload};

/// Deletions under way at most: they share the API server with creates, which are in more of a hurry.
const DELETING: usize = 500;
/// When a pod is still there after this, its deletion failed, and is asked for again.
const DELETE_AGAIN: Duration = Duration::from_secs(120);

/// How often it is looked through within a refresh period, what is to be prefetched again: a node is so much late at
/// most, which is little beside how far nodes are spread on purpose.
const LOOKS: u32 = 60;

/// What was found when the pods of a Deployment were last looked through.
pub(super) struct Swept {
    /// The Deployment as it was. A change of it that asks for no work, of its status say, may still end the use of a pod.
    workload: Option<Arc<Workload>>,
    /// When the next of its pods is of no more use, if nothing changes before.
    due: Option<Timestamp>,
}

impl Swept {
    fn is_current(&self, workload: Option<&Arc<Workload>>, now: Timestamp) -> bool {
        let same = match (&self.workload, workload) {
            (Some(then), Some(now)) => Arc::ptr_eq(then, now),
            (None, None) => true,
            _ => false,
        };
        same && self.due.is_none_or(|due| now < due)
    }
}

impl Desk {
    /// Once a second.
    pub(super) fn on_sweep(&mut self) {
        let unconfirmed = self.worker.hints.expire(Instant::now());
        if unconfirmed > 0 {
            self.worker.metrics.reviews_expired(unconfirmed);
            info!(unconfirmed, "reviews whose object was never stored");
        }
        if !self.deleting.is_empty() {
            let gone = self.worker.cluster.gone(self.deleting.keys());
            self.deleting
                .retain(|uid, since| !gone.contains(uid) && since.elapsed() < DELETE_AGAIN);
        }
        let now = Timestamp::now();
        let outdated = self.worker.cluster.with_pods(|key, workload| {
            let swept = self.swept.get(key);
            swept.is_none_or(|swept| !swept.is_current(workload, now))
        });
        for key in outdated {
            self.sweep_one(&key);
        }
        self.check_holds();
        self.send_the_last();
        self.refresh();
        self.retire();
        self.measure();
    }

    /// Deletes what is of no more use to a Deployment.
    pub(super) fn sweep_one(&mut self, key: &DeploymentKey) {
        let nodes = self.worker.cluster.nodes_with_pods(key);
        if nodes.is_empty() {
            self.swept.remove(key);
            return;
        }
        let workload = self.worker.cluster.opted_in(key);
        let swept = Swept {
            workload,
            due: None,
        };
        self.swept.insert(key.clone(), swept);
        for node in nodes {
            self.sweep_place(&Place {
                key: key.clone(),
                node,
            });
            // Too many deletions are under way.
            if !self.swept.contains_key(key) {
                return;
            }
        }
    }

    pub(super) fn sweep_place(&mut self, place: &Place) {
        // A pod that goes before it was known to be there is waited for in vain. It is looked at with the answer.
        if self.expected.get(place).is_some_and(Expectation::is_open) {
            return;
        }
        if self.deleting.len() >= DELETING {
            self.swept.remove(&place.key);
            return;
        }
        let cluster = &self.worker.cluster;
        if !cluster.has_pods(&place.key) {
            self.swept.remove(&place.key);
            return;
        }
        let workload = cluster.opted_in(&place.key);
        let refresh = workload.as_deref().and_then(|w| self.refresh_of(w));
        let (now, retain) = (Timestamp::now(), self.worker.policy.retain);
        let mut next: Option<Timestamp> = None;
        let mut due: Vec<(String, String)> = Vec::new();
        for pod in cluster.pods_at(&place.key, &place.node) {
            let Some(at) = due_at(workload.as_deref(), &pod, retain, refresh) else {
                continue;
            };
            // What is being deleted counts too: until it is gone, it may have to be asked for again.
            next = next.into_iter().chain([at]).min();
            if at <= now && !self.deleting.contains_key(&pod.uid) {
                due.push((pod.name, pod.uid));
            }
        }
        if let Some(swept) = self.swept.get_mut(&place.key) {
            swept.due = [swept.due, next].into_iter().flatten().min();
        }
        if due.is_empty() {
            return;
        }
        debug!(deployment = %place.key, node = %place.node, pods = due.len(), "removing prefetch pods");
        let asked = Instant::now();
        self.deleting
            .extend(due.iter().map(|(_, uid)| (uid.clone(), asked)));
        let namespace = place.key.namespace.clone();
        let delete = self
            .worker
            .puller
            .clone()
            .delete(namespace, due, self.writes.clone());
        self.tasks.spawn(delete);
    }

    /// Lines up the nodes whose images are to be prefetched again.
    fn refresh(&mut self) {
        let now = Timestamp::now();
        let mut due = Vec::new();
        for (key, work) in &mut self.works {
            let own = work.workload.annotations.refresh.as_ref();
            let Some(every) = own.map(|own| own.0).or(self.worker.policy.refresh) else {
                continue;
            };
            if work.looked_through.elapsed() < every.unsigned_abs() / LOOKS {
                continue;
            }
            work.looked_through = Instant::now();
            for (node, spot) in work.spots.iter() {
                if !spot.stage().is_decided() {
                    continue;
                }
                let pods = self.worker.cluster.pods_at(key, node);
                let standards = work.standards(node, Some(every), now);
                if let Verdict::Lacks { .. } = judge(&work.workload, &pods, standards) {
                    due.push(Place {
                        key: key.clone(),
                        node: node.clone(),
                    });
                }
            }
        }
        for place in due {
            if let Some(work) = self.works.get_mut(&place.key) {
                if let Some(spot) = work.spots.get_mut(&place.node) {
                    spot.attempts = 0;
                }
                work.started = Instant::now();
                work.reported.clear();
            }
            self.line_up(&place);
        }
    }

    /// Forgets what is over: its pods are gone, and its rollout is.
    fn retire(&mut self) {
        let cluster = self.worker.cluster.clone();
        let refreshes = self.worker.policy.refresh.is_some();
        let now = Timestamp::now();
        let retain = self.worker.policy.retain;
        self.works.retain(|key, work| {
            let over = work.spots.open() == 0
                && !refreshes
                && work.workload.annotations.refresh.is_none()
                && !cluster.has_pods(key);
            !over
                || cluster
                    .opted_in(key)
                    .is_some_and(|now_is| now_is.rollout.is_recent(now, retain) && work.whole)
        });
    }

    fn measure(&self) {
        let cluster = &self.worker.cluster;
        let now = Instant::now();
        let open = self.works.values().filter(|work| work.spots.open() > 0);
        let oldest = open
            .clone()
            .map(|work| now.duration_since(work.started))
            .max();
        let depth = cluster.rollouts.len() + open.clone().count();
        self.worker.metrics.set_queue_stats(QueueStats {
            deployments: depth,
            oldest: oldest.unwrap_or_default().max(cluster.rollouts.age(now)),
            places: open.map(|work| work.spots.open()).sum(),
            pulling: self.ledger.pulling(),
            held: self.holds.len(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_looked_through_again_when_one_is_due_or_their_deployment_has_changed() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let web = Arc::new(crate::cluster::verdict::tests::wants(&["a:1"]));
        let swept = |due| Swept {
            workload: Some(web.clone()),
            due,
        };
        assert!(swept(Some(at(100))).is_current(Some(&web), at(99)));
        assert!(!swept(Some(at(100))).is_current(Some(&web), at(100)));
        assert!(swept(None).is_current(Some(&web), Timestamp::MAX));
        // A new state of it, be it the same in all that is compared elsewhere.
        let later = Arc::new(Workload::clone(&web));
        assert!(!swept(None).is_current(Some(&later), at(0)));
        assert!(!swept(None).is_current(None, at(0)), "opted out, or gone");
    }
}
