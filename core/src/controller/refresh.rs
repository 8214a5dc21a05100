//! Pulls images again from time to time, where that is configured.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

use super::prefetch::Prefetch;
use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::evidence::{NodeImages, images_on_node};
use crate::store::{NodeName, NodeRecord};
use crate::workload::DeploymentKey;

/// The number of checks of a prefetch within a refresh period. A node is late by at most this part of the period. That
/// is little beside the time over which nodes are spread on purpose.
const CHECKS: u32 = 60;

/// Schedules the next check of a prefetch, if its images are pulled again.
pub(super) fn schedule(prefetch: &Prefetch, turn: &mut Turn<'_>) {
    if let Some(every) = turn.refresh_interval(&prefetch.workload) {
        let next = turn.now.monotonic + check_interval(every);
        let key = prefetch.workload.key.clone();
        turn.timers.set(TimerKey::Refresh(key), next);
    }
}

fn check_interval(every: SignedDuration) -> Duration {
    (every.unsigned_abs() / CHECKS).max(Duration::from_secs(1))
}

/// Queues the nodes whose images are to be pulled again, and schedules the next check.
pub(super) fn refresh(pulls: &mut Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    let Some(every) = turn.refresh_interval(&prefetch.workload) else {
        return;
    };
    schedule(prefetch, turn);
    let due: Vec<NodeName> = prefetch.nodes.nodes_matching(|node, pull| {
        // A pod, and its end, would make an autoscaler wait longer before it removes the node.
        let may_go = |record: &Arc<NodeRecord>| record.info.is_scale_down_candidate;
        if !pull.state().is_final() || turn.store.node(node).is_some_and(may_go) {
            return false;
        }
        let pods = turn.store.pods_on_node(key, node);
        let window = prefetch.evidence_window(node, Some(every), turn.now.wall);
        let images = images_on_node(&prefetch.workload, &pods, &[], window);
        matches!(images, NodeImages::Missing { .. })
    });
    if due.is_empty() {
        return;
    }
    prefetch.started = turn.now.monotonic;
    prefetch.reports.failures.clear();
    for node in due {
        if let Some(pull) = prefetch.nodes.get_mut(&node) {
            pull.attempts = 0;
        }
        prefetch.nodes.enqueue(&node);
    }
    pulls.queue.push(key);
}
