//! Forgets prefetches that are finished.

use super::gc::LONGEST_PAUSE;
use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::workload::DeploymentKey;

/// Forgets a prefetch whose pods are gone and whose rollout is over. If only time is missing for that, sets a timer.
pub(super) fn remove_finished_prefetch(
    pulls: &mut Pulls,
    key: &DeploymentKey,
    turn: &mut Turn<'_>,
) {
    let Some(prefetch) = pulls.prefetches.get(key) else {
        return;
    };
    let finished = prefetch.nodes.pending_count() == 0
        && turn.refresh_interval(&prefetch.workload).is_none()
        && !turn.store.has_pods(key);
    if !finished {
        return;
    }
    let current = turn
        .store
        .enabled(key)
        .filter(|_| prefetch.covers_all_nodes);
    if let Some(rollout) = current.map(|workload| workload.state.rollout)
        && rollout.is_recent(turn.now.wall, turn.config.retain)
    {
        // An unfinished rollout reports its end as a change.
        let ends = rollout.progressed.filter(|_| rollout.settled);
        if let Some(ends) = ends.and_then(|at| at.checked_add(turn.config.retain).ok()) {
            let latest = turn.now.monotonic + LONGEST_PAUSE;
            let at = turn.now.at_wall(ends).min(latest);
            turn.timers.set_at_latest(TimerKey::Gc(key.clone()), at);
        }
        return;
    }
    pulls.cancel_prefetch(key);
}

/// Stops the timers of a Deployment that has no prefetch.
pub(super) fn stop_timers(pulls: &Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    if pulls.prefetches.contains_key(key) {
        return;
    }
    for timer in [
        TimerKey::Refresh,
        TimerKey::DeferralDone,
        TimerKey::ListStarting,
        TimerKey::FailedRetry,
    ] {
        turn.timers.stop(&timer(key.clone()));
    }
}
