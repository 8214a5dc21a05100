//! Tries nodes again where an image has failed for good, when the pods that tried it are deleted.

use super::backoff;
use super::prefetch::Prefetch;
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::pod::status::{Failure, FailureKind};
use crate::store::DeploymentNode;
use crate::workload::DeploymentKey;

/// Schedules the next try of the nodes that have failed, if another answer is possible without a change of the Deployment.
pub(super) fn schedule_retry_of_failed(
    prefetch: &Prefetch,
    failures: &[(usize, Failure)],
    turn: &mut Turn<'_>,
) {
    let key = &prefetch.workload.key;
    let timer = TimerKey::FailedRetry(key.clone());
    let tries = prefetch.nodes.failed_retries;
    let may_heal = failures.iter().any(|(_, failure)| may_heal(failure.kind));
    if may_heal && tries < u32::from(backoff::ATTEMPTS) && !turn.timers.is_set(&timer) {
        let pause = backoff::failed_delay(tries + 1, &key.to_string());
        turn.timers.set(timer, turn.now.monotonic + pause);
    }
}

/// Returns whether the same image may be pulled later: its tag is pushed, the registry lets the node in, the disk has room.
fn may_heal(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::NotFound | FailureKind::Unauthorized | FailureKind::NoSpace
    )
}

/// Queues the nodes that have failed. A large plan begins with a canary again.
pub(super) fn retry_failed(pulls: &mut Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    let failed = |pull: PullState| matches!(pull, PullState::Failed(_));
    let nodes = prefetch
        .nodes
        .nodes_matching(|_, pull| failed(pull.state()));
    if nodes.is_empty() {
        return;
    }
    prefetch.nodes.failed_retries += 1;
    prefetch.nodes.restart_canaries();
    for node in nodes {
        let key = key.clone();
        pulls.enqueue(&DeploymentNode { key, node });
    }
    turn.mark_changed(key);
}
