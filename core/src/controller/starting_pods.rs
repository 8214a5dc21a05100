//! Finds the nodes where the rollout's own pods start, and defers them.

use std::collections::BTreeSet;

use super::canary::CanaryGate;
use super::deferral::{BIND_DELAY, BIND_DELAY_AFTER_CANARY, Deferral, MAX_DEFERRAL};
use super::log::LogLine;
use super::lookups::{Lookup, Lookups};
use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::store::DeploymentNode;
use crate::workload::DeploymentKey;

/// Schedules a list of the rollout's starting pods, if there are such pods and more nodes than one.
pub(super) fn schedule_list(pulls: &mut Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    if prefetch.workload.selector_for_starting_pods().is_none()
        || prefetch.nodes.pending_count() < 2
    {
        return;
    }
    prefetch.deferral = Deferral::Unknown;
    let mut groups = prefetch.nodes.groups.iter();
    let delay = if groups.any(|group| group.gate != CanaryGate::Open) {
        BIND_DELAY_AFTER_CANARY
    } else {
        BIND_DELAY
    };
    let list = TimerKey::ListStarting(key.clone());
    turn.timers.set(list, turn.now.monotonic + delay);
}

/// Lists the rollout's starting pods.
pub(super) fn list_starting_pods(
    pulls: &mut Pulls,
    lookups: &mut Lookups,
    key: &DeploymentKey,
    turn: &mut Turn<'_>,
) {
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    if prefetch.deferral != Deferral::Unknown {
        return;
    }
    let Some(selector) = prefetch.workload.pods.clone() else {
        prefetch.deferral = Deferral::None;
        pulls.queue.push(key);
        return;
    };
    let lookup = Lookup::StartingPods {
        workload: prefetch.workload.clone(),
        selector,
        prefetch: prefetch.id,
    };
    lookups.start(lookup, turn);
}

/// Defers the nodes where the rollout's own pods start.
pub(super) fn on_starting_pods_listed(
    pulls: &mut Pulls,
    (key, id): (&DeploymentKey, u64),
    result: Result<BTreeSet<String>, String>,
    turn: &mut Turn<'_>,
) {
    let prefetch = pulls.prefetches.get_mut(key);
    let Some(prefetch) = prefetch.filter(|prefetch| prefetch.id == id) else {
        return;
    };
    let nodes = result.unwrap_or_else(|error| {
        turn.out.logs.push(LogLine::LookupFailed {
            key: key.clone(),
            what: "the pods that it starts",
            error,
        });
        BTreeSet::new()
    });
    let until = turn.now.monotonic + MAX_DEFERRAL;
    let (deferral, count) = Deferral::defer(&mut prefetch.nodes, &nodes, until);
    prefetch.deferral = deferral;
    turn.out.logs.push(LogLine::Deferred {
        key: key.clone(),
        nodes: count,
    });
    if deferral != Deferral::None {
        turn.timers.set(TimerKey::DeferralDone(key.clone()), until);
    }
    pulls.queue.push(key);
    queue_deferred_nodes(pulls, key, turn);
}

/// Queues the deferred nodes of a Deployment whose rollout is complete, or whose deferral is over.
pub(super) fn queue_deferred_nodes(pulls: &mut Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    let Deferral::Until(until) = prefetch.deferral else {
        return;
    };
    let current = turn.store.enabled(key);
    let settled = current.is_none_or(|workload| workload.state.rollout.settled);
    if turn.now.monotonic < until && !settled {
        return;
    }
    turn.timers.stop(&TimerKey::DeferralDone(key.clone()));
    for node in prefetch.deferral.take_deferred(&prefetch.nodes) {
        let key = key.clone();
        pulls.enqueue(&DeploymentNode { key, node });
    }
}
