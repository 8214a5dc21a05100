//! Applies the status of prefetch pods to a node: its state, its retries and its reports.

use std::time::Duration;

use super::backoff;
use super::expectations::CacheState;
use super::failed_pulls::schedule_retry_of_failed;
use super::failure_reports::report_failures;
use super::kubelets::set_absence;
use super::log::LogLine;
use super::messages;
use super::observation::Observation;
use super::prefetch::Prefetch;
use super::progress;
use super::pull_state::{PullState, failed_state};
use super::pulls::Pulls;
use super::shared_pulls::{follow, shared_pulls};
use super::timers::TimerKey;
use super::turn::Turn;
use crate::event::EventReason;
use crate::evidence::{NodeImages, images_on_node};
use crate::pod::status::{Failure, FailureKind};
use crate::store::{DeploymentNode, NodeName, PrefetchPod};
use crate::time::Instant;
use crate::workload::DeploymentKey;

/// Judges a node by its pods, unless a created pod is not visible yet.
pub(super) fn sync_node(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
    let pods = turn.store.pods_on_node(&at.key, &at.node);
    let state = pulls
        .expectations
        .cache_state(at, &pods, turn.now.monotonic);
    match state {
        CacheState::Stale => return,
        CacheState::JustSynced(lag) => {
            turn.timers.stop(&TimerKey::Expectation(at.clone()));
            turn.out.observations.extend(lag.map(Observation::WatchLag));
        }
        CacheState::Synced => {}
    }
    apply_evidence(pulls, at, &pods, state, turn);
}

/// Judges a node whose created pod should be visible by now.
pub(super) fn on_expectation_timeout(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
    if pulls.expectations.on_timeout(at, turn.now.monotonic) {
        pulls.sharing.wake(at);
        let pods = turn.store.pods_on_node(&at.key, &at.node);
        apply_evidence(pulls, at, &pods, CacheState::JustSynced(None), turn);
    }
}

/// Moves a node to the state that its pods show.
fn apply_evidence(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    pods: &[&PrefetchPod],
    cache: CacheState,
    turn: &mut Turn<'_>,
) {
    let DeploymentNode { key, node } = at;
    let shared = shared_pulls(pulls, at, turn);
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        pulls.release_slot(at);
        return;
    };
    let Some(pull) = prefetch.nodes.get(node) else {
        pulls.release_slot(at);
        return;
    };
    let (state, attempts, create_requested) = (pull.state(), pull.attempts, pull.create_requested);
    // The pods of a node may go; its images stay, until they are refreshed.
    if state == PullState::Present {
        return;
    }
    let refresh = turn.refresh_interval(&prefetch.workload);
    let window = prefetch.evidence_window(node, refresh, turn.now.wall);
    let images = images_on_node(&prefetch.workload, pods, &shared.pods, window);
    let is_failed = matches!(state, PullState::Failed(_));
    if record_answers(prefetch, node, &images, is_failed, turn.now.monotonic) {
        turn.mark_changed(key);
    }
    if images != NodeImages::Present {
        follow(pulls, at, &shared);
    }
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    match images {
        NodeImages::Present => {
            prefetch.nodes.transition(node, PullState::Present);
            // Do not record a duration for images that were present before this leader started.
            if state != PullState::Pending {
                let after = turn.now.monotonic.duration_since(prefetch.started);
                turn.out.observations.push(Observation::NodePulled(after));
                record_pod_metrics(pulls, at, pods, turn);
            }
            pulls.release_slot(at);
            on_node_finished(pulls, key, turn);
        }
        // The kubelet tries again, and reports other failures meanwhile. Only success counts.
        NodeImages::Pulling { .. } | NodeImages::Missing { .. } if is_failed => {
            pulls.release_slot(at);
        }
        NodeImages::Pulling { active, failures } => {
            if state == PullState::Pending
                && let Some((index, group)) = prefetch.nodes.group_of(node)
                && let Some(opens) = group.gate.on_existing_pod(turn.now.monotonic)
            {
                turn.timers
                    .set(TimerKey::CanaryDone(key.clone(), index), opens);
            }
            pulls.transition(at, PullState::Pulling);
            if active {
                if pulls.reserve_for_existing_pod(at) {
                    progress::watch(pulls, at, turn);
                }
            } else {
                pulls.release_slot(at);
            }
            report_failures(pulls, at, &failures, turn);
        }
        NodeImages::Failed(failures) => {
            prefetch.nodes.transition(node, failed_state(&failures));
            schedule_retry_of_failed(prefetch, &failures, turn);
            if state != PullState::Pending && !is_failed {
                record_pod_metrics(pulls, at, pods, turn);
            }
            pulls.release_slot(at);
            report_failures(pulls, at, &failures, turn);
            on_node_finished(pulls, key, turn);
        }
        NodeImages::Missing { failures, .. } => match state {
            // A new leader finds a pod that failed.
            PullState::Pending if !failures.is_empty() && attempts == 0 => {
                schedule_retry(pulls, at, &failures, turn);
            }
            // A pod of the previous image set has brought the common images. The others need a pod of their own.
            PullState::Pulling if failures.is_empty() && !create_requested => {
                pulls.release_slot(at);
                pulls.enqueue(at);
            }
            // The node waited for a pod of the previous image set to become visible.
            PullState::Pending if matches!(cache, CacheState::JustSynced(_)) => {
                pulls.release_slot(at);
                pulls.enqueue(at);
            }
            PullState::Created | PullState::Pulling => {
                if failures.is_empty() {
                    turn.out.observations.push(Observation::PodLost);
                } else {
                    record_pod_metrics(pulls, at, pods, turn);
                }
                schedule_retry(pulls, at, &failures, turn);
            }
            _ => pulls.release_slot(at),
        },
    }
}

/// Records the answers of the kubelet that cannot pull. Returns whether they have changed.
fn record_answers(
    prefetch: &mut Prefetch,
    node: &NodeName,
    images: &NodeImages,
    is_failed: bool,
    now: Instant,
) -> bool {
    let answers = &mut prefetch.nodes.answers;
    match images {
        // The state of a node that has failed is decided by its answers, until all images are present.
        NodeImages::Pulling { failures, .. } => answers.record(node, failures, !is_failed, now),
        NodeImages::Failed(failures) => answers.record(node, failures, false, now),
        NodeImages::Present | NodeImages::Missing { .. } => false,
    }
}

/// Tries a node again after a pause, at most [`backoff::ATTEMPTS`] times in all.
pub(super) fn schedule_retry(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    failures: &[(usize, Failure)],
    turn: &mut Turn<'_>,
) {
    schedule_retry_after(pulls, at, failures, Duration::ZERO, turn);
}

/// The same, with a pause that is at least so long.
pub(super) fn schedule_retry_after(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    failures: &[(usize, Failure)],
    least: Duration,
    turn: &mut Turn<'_>,
) {
    pulls.release_slot(at);
    let refused = |(_, failure): &(usize, Failure)| failure.kind == FailureKind::Rejected;
    if failures.iter().any(refused) {
        set_absence(pulls, at, |absence| absence.refused = true, turn);
    }
    // Another node may be sent to in its place.
    pulls.queue.push(&at.key);
    let Some(prefetch) = pulls.prefetches.get_mut(&at.key) else {
        return;
    };
    let Some(pull) = prefetch.nodes.get_mut(&at.node) else {
        return;
    };
    pull.attempts = pull.attempts.saturating_add(1);
    let attempts = pull.attempts;
    let lost = |pause: Option<Duration>| LogLine::PodLost {
        at: at.clone(),
        attempts,
        pause,
    };
    if attempts >= backoff::ATTEMPTS {
        turn.out.logs.push(lost(None));
        prefetch.nodes.transition(&at.node, PullState::Abandoned);
        report_failures(pulls, at, failures, turn);
        on_node_finished(pulls, &at.key, turn);
        return;
    }
    prefetch.nodes.transition(&at.node, PullState::Backoff);
    let pause = backoff::node_delay(attempts, &at.node).max(least);
    turn.out.logs.push(lost(Some(pause)));
    let retry = TimerKey::PullRetry(at.clone());
    turn.timers.set(retry, turn.now.monotonic + pause);
    report_failures(pulls, at, failures, turn);
}

/// Queues a node again after its pause.
pub(super) fn on_retry_due(pulls: &mut Pulls, at: &DeploymentNode) {
    if pulls.state(at) == Some(PullState::Backoff) {
        pulls.enqueue(at);
    }
}

/// Records the results of the pods of a node that belong to the current image set.
fn record_pod_metrics(
    pulls: &Pulls,
    at: &DeploymentNode,
    pods: &[&PrefetchPod],
    turn: &mut Turn<'_>,
) {
    let Some(prefetch) = pulls.prefetches.get(&at.key) else {
        return;
    };
    let of_images = pods
        .iter()
        .filter(|pod| pod.revision == prefetch.workload.image_set);
    let results = of_images.map(|pod| Observation::PodFinished(pod.outcome.clone()));
    turn.out.observations.extend(results);
}

/// Continues a prefetch one of whose nodes is decided or gone: others may be sent to, or it is finished.
pub(super) fn on_node_finished(pulls: &mut Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    turn.mark_changed(key);
    if prefetch.nodes.pending_count() > 0 {
        pulls.queue.push(key);
        return;
    }
    if !prefetch.mark_finished() {
        return;
    }
    let present = prefetch.nodes.totals().present;
    let failed = prefetch.nodes.failed_count();
    turn.out.logs.push(LogLine::Finished {
        key: key.clone(),
        present,
        failed,
    });
    if failed == 0 && present > 0 && prefetch.covers_all_nodes {
        let note = messages::prefetched(prefetch, turn.now.monotonic);
        turn.out
            .event(&prefetch.workload, EventReason::Prefetched, "", note);
    }
}
