//! Watches the progress of pulls. Holds of other namespaces do not wait behind one that hangs, as from a registry that trickles,
//! and after a minute it leaves its place on the node to others.

use std::time::Duration;

use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::store::DeploymentNode;

/// The time without a change of a pod's status after which holds of other namespaces do not wait for the node. A kubelet pulls one
/// image after another, and theirs come later.
const QUIET_AFTER: Duration = Duration::from_secs(10);
/// The time without a change of a pod's status after which its pull counts as stalled. A pull that is slow and ends after all
/// is one of these too; that it leaves its place early harms nobody.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Watches a pull from now on, if it has a slot: its pod was created, or its status has changed.
pub(super) fn watch(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
    pulls.quiet.remove(at);
    let timers = [
        (TimerKey::PullQuiet(at.clone()), QUIET_AFTER),
        (TimerKey::PullStalled(at.clone()), STALLED_AFTER),
    ];
    let has_slot = pulls.has_slot(at);
    for (timer, after) in timers {
        if has_slot {
            turn.timers.set(timer, turn.now.monotonic + after);
        } else {
            turn.timers.stop(&timer);
        }
    }
    pulls.set_stalled(at, false);
}

/// Takes a pull for quiet.
pub(super) fn on_quiet(pulls: &mut Pulls, at: &DeploymentNode) {
    if pulls.has_slot(at) {
        pulls.quiet.add(at);
    }
}

/// Takes a pull for stalled.
pub(super) fn on_stalled(pulls: &mut Pulls, at: &DeploymentNode) {
    pulls.set_stalled(at, true);
}
