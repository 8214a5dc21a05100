//! Keeps the images of a rollout from other nodes until some of its new pods are ready, where its Deployment asks for that.
//!
//! A version that crashes then costs no pulls elsewhere. A rollout in mode hold has no pods before its images are there, so it
//! does not wait.

use super::deferral::Deferral;
use super::pull::on_node_finished;
use super::pulls::Pulls;
use super::starting_pods;
use super::turn::Turn;
use crate::api::mode::Mode;
use crate::store::Store;
use crate::workload::DeploymentKey;

/// Returns whether a Deployment's images wait for its new pods.
pub(super) fn awaits_ready(store: &Store, key: &DeploymentKey) -> bool {
    let stored = store.get(key);
    stored.is_some_and(|(workload, mode)| {
        mode == Mode::Enabled && workload.state.rollout.awaits_ready
    })
}

/// Begins a prefetch that has waited, if its new pods are ready. It does not wait again when they fail later.
pub(super) fn begin_when_ready(pulls: &mut Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    if prefetch.deferral != Deferral::AfterReady || awaits_ready(turn.store, key) {
        return;
    }
    prefetch.deferral = Deferral::None;
    prefetch.started = turn.now.monotonic;
    // The nodes of the pods that are ready.
    prefetch.take_present_nodes(turn.store);
    starting_pods::schedule_list(pulls, key, turn);
    pulls.queue.push(key);
    on_node_finished(pulls, key, turn);
}
