//! The limits of namespaces for their pods: prefetch pods fit into LimitRanges, and leave the room of quotas to rollouts.

use k8s_openapi::api::core::v1::Pod;

use super::pull_state::PullState;
use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::pod::prefetch_pod;
use crate::resource_quota::{Footprint, OwnPods, QuotaRoom};
use crate::scheduling::node::PullMethod;
use crate::store::{DeploymentNode, PrefetchPod, Store};
use crate::workload::{DeploymentKey, Workload};

/// Returns the room that the quotas of a namespace leave for one more prefetch pod. If other prefetch pods take it, the
/// Deployment waits for them.
pub(super) fn find_room(
    pulls: &mut Pulls,
    workload: &Workload,
    at: &DeploymentNode,
    method: PullMethod,
    turn: &mut Turn<'_>,
) -> QuotaRoom {
    let namespace = &at.key.namespace;
    if !turn.store.has_quota(namespace) {
        return QuotaRoom::Free;
    }
    let mut pod = prefetch_pod(workload, &at.node, method, &turn.config.pods);
    if fit_limit_ranges(&mut pod, namespace, turn.store).is_err() {
        // The create says so.
        return QuotaRoom::Free;
    }
    let one = pod.spec.as_ref().map(Footprint::of_pod);
    let creating = pulls.expectations.count_in(namespace);
    let room = turn
        .store
        .quota_room(namespace, one.unwrap_or_default(), creating);
    if room == QuotaRoom::Free {
        return room;
    }
    let now = turn.now.monotonic;
    let met = pulls.quotas.met(namespace);
    met.count(turn.store.own_pods(namespace), now);
    let is_final = turn.store.refused_by_quota(namespace).is_some();
    let counted_at = met.counted_at(now).filter(|_| !is_final);
    if let (QuotaRoom::None(_), None) = (&room, counted_at) {
        return room;
    }
    if let Some(counted_at) = counted_at {
        let recount = TimerKey::QuotaRecount(namespace.clone());
        turn.timers.set(recount, counted_at);
    }
    met.park(&at.key);
    QuotaRoom::Taken
}

/// Queues the Deployments of a namespace that wait for room: a prefetch pod has changed, or a quota, or enough time is over.
pub(super) fn on_room_changed(pulls: &mut Pulls, namespace: &str, turn: &Turn<'_>) {
    let own = turn.store.own_pods(namespace);
    if pulls.quotas.is_met(namespace)
        || own != OwnPods::default() && turn.store.has_quota(namespace)
    {
        pulls.quotas.met(namespace).count(own, turn.now.monotonic);
    }
    for key in pulls.quotas.take_parked(namespace) {
        pulls.queue.push(&key);
    }
}

/// Queues the Deployments of a namespace whose quotas have changed, and forgets the namespace if it has none any more.
pub(super) fn on_quota_changed(pulls: &mut Pulls, namespace: &str, turn: &Turn<'_>) {
    on_room_changed(pulls, namespace, turn);
    if !turn.store.has_quota(namespace) {
        pulls.quotas.forget(namespace);
    }
}

/// Returns whether a pod goes at once: a quota keeps a rollout from creating its pods, or the pod has done its work and a quota
/// counts it all the same.
pub(super) fn must_go(
    pulls: &Pulls,
    at: &DeploymentNode,
    pod: &PrefetchPod,
    turn: &Turn<'_>,
) -> bool {
    if pod.deleting {
        return false;
    }
    let namespace = &at.key.namespace;
    let is_done = pod.outcome.ended.is_some() || pod.outcome.all_pulled();
    // The store may be ahead of the event that says what the pod has brought.
    let is_known = || pulls.state(at).is_none_or(PullState::is_final);
    turn.store.refused_by_quota(namespace).is_some()
        || is_done && turn.store.counts_finished_pods(namespace) && is_known()
}

/// Returns the Deployments of a namespace that may have pods of that kind.
pub(super) fn deployments_to_collect(namespace: &str, store: &Store) -> Vec<DeploymentKey> {
    let may_have =
        store.refused_by_quota(namespace).is_some() || store.counts_finished_pods(namespace);
    if may_have {
        store.deployments_with_pods_in(namespace)
    } else {
        Vec::new()
    }
}

/// Gives a pod the resources that the LimitRanges of its namespace ask for.
///
/// # Errors
/// Says which of them no prefetch pod meets.
pub(super) fn fit_limit_ranges(
    pod: &mut Pod,
    namespace: &str,
    store: &Store,
) -> Result<(), String> {
    let bounds = store.resource_bounds(namespace);
    let (Some(bounds), Some(spec)) = (bounds, pod.spec.as_mut()) else {
        return Ok(());
    };
    let fitted = bounds.fit(spec);
    fitted.map_err(|why| format!("no prefetch pod meets the LimitRanges of {namespace}: {why}"))
}
