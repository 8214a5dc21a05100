//! Watches the kubelets: one that does not acknowledge a prefetch pod, or whose node is not Ready, is not waited for.

use super::absence::{Absence, MIN_SILENCE, silence_limit};
use super::log::LogLine;
use super::messages;
use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::event::EventReason;
use crate::store::{DeploymentNode, NodeRecord, PrefetchPod};

/// Reads from the pods on a node whether its kubelet acknowledges them.
pub(super) fn observe_pods(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
    let pods = turn.store.pods_on_node(&at.key, &at.node);
    let lives = |pod: &&PrefetchPod| !pod.deleting && pod.outcome.ended.is_none();
    let (acknowledged, waiting): (Vec<&PrefetchPod>, Vec<&PrefetchPod>) = pods
        .iter()
        .copied()
        .filter(lives)
        .partition(|pod| pod.outcome.acknowledged);
    let now = turn.now.monotonic;
    let timer = TimerKey::Silence(at.clone());
    let prefetch = pulls.prefetches.get_mut(&at.key);
    let pull = prefetch.and_then(|prefetch| prefetch.nodes.get_mut(&at.node));
    let newest = waiting.into_iter().max_by_key(|pod| pod.created);
    match (pull, newest) {
        (Some(pull), Some(pod)) => {
            if !pull.acknowledgement.await_pod(&pod.uid, now) {
                return;
            }
            turn.timers.set(timer, now + MIN_SILENCE);
        }
        (Some(pull), None) => {
            let is_acknowledged = |uid: &str| {
                let mut pods = pods.iter();
                pods.any(|pod| pod.uid == uid && pod.outcome.acknowledged)
            };
            pull.acknowledgement.stop(is_acknowledged, now);
            turn.timers.stop(&timer);
            if !acknowledged.is_empty() {
                set_absence(pulls, at, |absence| absence.refused = false, turn);
            }
        }
        (None, _) => turn.timers.stop(&timer),
    }
    pulls.silent.remove(at);
}

/// Checks a kubelet that had its time to acknowledge a pod. The others may have needed long too.
pub(super) fn on_silence(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get_mut(&at.key) else {
        return;
    };
    let pull = prefetch.nodes.get(&at.node);
    let Some(since) = pull.and_then(|pull| pull.acknowledgement.waiting_since()) else {
        return;
    };
    let limit = silence_limit(prefetch.nodes.acknowledged_after());
    if since + limit > turn.now.monotonic {
        let timer = TimerKey::Silence(at.clone());
        turn.timers.set(timer, since + limit);
        return;
    }
    let reason = "KubeletSilent";
    if prefetch.reports.take_node_fault(reason) {
        let note = messages::node_silent(&at.node, limit);
        prefetch.reports.last_error = Some(note.clone());
        let failed = EventReason::PrefetchFailed;
        let workload = &prefetch.workload;
        turn.out.logs.push(LogLine::NodeSilent(at.clone()));
        turn.out.event(workload, failed, reason, note);
    }
    pulls.silent.add(at);
}

/// Records whether a node of a prefetch is Ready.
pub(super) fn observe_node(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    record: &NodeRecord,
    turn: &mut Turn<'_>,
) {
    let not_ready = record.info.is_not_ready();
    set_absence(pulls, at, |absence| absence.not_ready = not_ready, turn);
}

/// Changes the reasons for which a node is not waited for. If that changes whether it is, the hold is checked, and other nodes
/// may be sent to.
pub(super) fn set_absence(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    change: impl FnOnce(&mut Absence),
    turn: &mut Turn<'_>,
) {
    let prefetch = pulls.prefetches.get_mut(&at.key);
    let Some(pull) = prefetch.and_then(|prefetch| prefetch.nodes.get_mut(&at.node)) else {
        return;
    };
    let before = pull.absence.is_any();
    change(&mut pull.absence);
    if pull.absence.is_any() != before {
        pulls.queue.push(&at.key);
        turn.mark_changed(&at.key);
    }
}
