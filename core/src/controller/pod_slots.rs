//! Leaves the last pod slots of a node to the pods of others. The node is counted before a prefetch pod goes there; without an
//! answer the pod goes there all the same.

use super::command::CommandId;
use super::pod_counts::{MAX_AGE, PodCount};
use super::pull::schedule_retry_after;
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::turn::Turn;
use crate::pod::NodeBinding;
use crate::pod::status::{Failure, FailureKind};
use crate::scheduling::pod_slots::{PodRoom, PodSlots};
use crate::store::{DeploymentNode, NodeName, PrefetchPod};
use crate::workload::DeploymentKey;

/// The slot of a prefetch pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PodSlot {
    /// There is one, for a pod that is bound in this way.
    Free(NodeBinding),
    /// None is free: the node is tried again later.
    None,
    /// A read was sent that tells. The node is queued again with its answer.
    ReadSent,
    /// A read in flight tells. The node is queued again with its answer.
    Unknown,
    /// Too many reads are in flight. The Deployment is queued again when one has ended.
    NoPlace,
}

/// Returns the slot that a node has for a prefetch pod, and counts the pods of the node if that is not known.
pub(super) fn find_slot(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) -> PodSlot {
    let node = &at.node;
    let now = turn.now.monotonic;
    let as_configured = PodSlot::Free(turn.config.pods.binding);
    let record = turn.store.node(node);
    let all = record.and_then(|record| record.info.pod_slots);
    let Some(all) = all else {
        return as_configured;
    };
    let Some(count) = pulls.pod_counts.get(node, now) else {
        if pulls.pod_counts.is_paused(now) {
            return as_configured;
        }
        return start_count(pulls, at, turn);
    };
    let Some(counted) = count.pods else {
        return as_configured;
    };
    let taken = counted.saturating_add(own_since(pulls, node, count, turn));
    let least = MAX_AGE.saturating_sub(now.duration_since(count.at));
    let slots = PodSlots { all, taken };
    match slots.room() {
        PodRoom::Ample => as_configured,
        PodRoom::Scarce => PodSlot::Free(NodeBinding::Affinity),
        PodRoom::None => {
            let failure = Failure {
                kind: FailureKind::Rejected,
                message: slots.to_string(),
                in_backoff: false,
            };
            // The node counts as one that refuses the pod, as its kubelet would: no hold waits for it.
            schedule_retry_after(pulls, at, &[(0, failure)], least, turn);
            PodSlot::None
        }
    }
}

fn start_count(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) -> PodSlot {
    if pulls.pod_counts.wait(at) {
        return PodSlot::Unknown;
    }
    if !pulls.pod_counts.has_place() {
        pulls.pod_counts.park(&at.key);
        return PodSlot::NoPlace;
    }
    pulls.pod_counts.read(at.node.clone(), turn);
    pulls.pod_counts.wait(at);
    PodSlot::ReadSent
}

/// Returns the number of prefetch pods on a node that are not in its count, with those that are being created or that its kubelet
/// has not acknowledged.
fn own_since(pulls: &Pulls, node: &NodeName, count: &PodCount, turn: &Turn<'_>) -> u32 {
    let alive = turn.store.alive_pods_on(node);
    let since = alive.filter(|pod| !count.own.contains(pod)).count();
    let starting = pulls.with_slot_on(node).map(|key| {
        let pods = turn.store.pods_on_node(key, node).into_iter();
        let is_starting =
            |pod: &&PrefetchPod| pod.outcome.ended.is_none() && !pod.outcome.acknowledged;
        let at = DeploymentNode {
            key: key.clone(),
            node: node.clone(),
        };
        pods.filter(is_starting).count() + usize::from(pulls.expectations.contains(&at))
    });
    let starting: usize = starting.sum();
    u32::try_from(since + starting).unwrap_or(u32::MAX)
}

/// Takes the number of pods on a node. The nodes that waited for it are next.
pub(super) fn on_pods_counted(
    pulls: &mut Pulls,
    id: CommandId,
    result: Result<u32, String>,
    turn: &mut Turn<'_>,
) {
    for at in pulls.pod_counts.finish(id, result, turn) {
        if pulls.state(&at) != Some(PullState::Pending) {
            continue;
        }
        if let Some(prefetch) = pulls.prefetches.get_mut(&at.key) {
            prefetch.nodes.requeue_front(&at.node);
            pulls.queue.push(&at.key);
        }
    }
    for key in pulls.pod_counts.take_parked() {
        pulls.queue.push(&key);
    }
}

/// Has the nodes of a new prefetch be counted before its turn comes.
pub(super) fn plan_counts(pulls: &mut Pulls, key: &DeploymentKey, turn: &Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get(key) else {
        return;
    };
    if pulls.pod_counts.is_paused(turn.now.monotonic) {
        return;
    }
    for (node, pull) in prefetch.nodes.iter() {
        if pull.state() == PullState::Pending {
            pulls.pod_counts.plan(node.clone());
        }
    }
}

/// Counts the pods of planned nodes while there are places.
pub(super) fn count_ahead(pulls: &mut Pulls, turn: &mut Turn<'_>) {
    while pulls.pod_counts.has_place()
        && let Some(node) = pulls.pod_counts.pop_planned(turn.now.monotonic)
    {
        let record = turn.store.node(&node);
        if record.is_some_and(|record| record.info.pod_slots.is_some()) {
            pulls.pod_counts.read(node, turn);
        }
    }
}
