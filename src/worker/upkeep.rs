//! What is done from time to time: old pods deleted, images refreshed, what is over forgotten, gauges set.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, info};

use super::desk::Desk;
use super::sweep::is_due;
use crate::cluster::Place;
use crate::cluster::verdict::{Verdict, judge};
use crate::domain::workload::Key;
use crate::metrics::Backlog;

/// Deletions under way at most: they share the API server with creates, which are in more of a hurry.
const DELETING: usize = 500;
/// When a pod is still there after this, its deletion failed, and is asked for again.
const DELETE_AGAIN: Duration = Duration::from_secs(120);

impl Desk {
    /// Once a second.
    pub(super) fn on_sweep(&mut self) {
        let unconfirmed = self.worker.hints.expire(Instant::now());
        if unconfirmed > 0 {
            self.worker.metrics.unconfirmed(unconfirmed);
            info!(unconfirmed, "reviews whose object was never stored");
        }
        if !self.deleting.is_empty() {
            let alive = self.worker.cluster.pod_uids();
            self.deleting
                .retain(|uid, since| alive.contains(uid) && since.elapsed() < DELETE_AGAIN);
        }
        for key in self.worker.cluster.keys_with_pods() {
            self.sweep_one(&key);
        }
        self.check_holds();
        self.refresh();
        self.retire();
        self.measure();
    }

    /// Deletes what is of no more use to a Deployment.
    pub(super) fn sweep_one(&mut self, key: &Key) {
        for node in self.worker.cluster.nodes_with_pods(key) {
            if self.deleting.len() >= DELETING {
                return;
            }
            self.sweep_place(&Place {
                key: key.clone(),
                node,
            });
        }
    }

    pub(super) fn sweep_place(&mut self, place: &Place) {
        if self.deleting.len() >= DELETING {
            return;
        }
        let cluster = &self.worker.cluster;
        let workload = cluster.opted_in(&place.key);
        let refresh = workload.as_deref().and_then(|w| self.refresh_of(w));
        let (now, retain) = (Timestamp::now(), self.worker.policy.retain);
        let due: Vec<(String, String)> = cluster
            .pods_at(&place.key, &place.node)
            .into_iter()
            .filter(|pod| !self.deleting.contains_key(&pod.uid))
            .filter(|pod| is_due(workload.as_deref(), pod, retain, refresh, now))
            .map(|pod| (pod.name, pod.uid))
            .collect();
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
            for (node, spot) in &work.spots {
                if !spot.stage.is_decided() {
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
            let over = work.open == 0
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
        let open = self.works.values().filter(|work| work.open > 0);
        let oldest = open
            .clone()
            .map(|work| now.duration_since(work.started))
            .max();
        let depth = cluster.rollouts.len() + open.clone().count();
        self.worker.metrics.backlog(Backlog {
            deployments: depth,
            oldest: oldest.unwrap_or_default().max(cluster.rollouts.age(now)),
            places: open.map(|work| work.open).sum(),
            pulling: self.ledger.pulling(),
            held: self.holds.len(),
        });
    }
}
