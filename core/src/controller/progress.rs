//! Watches the progress of pulls. One that hangs, as from a registry that trickles, leaves its place on the node to others.

use std::time::Duration;

use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::store::DeploymentNode;

/// The time without a change of a pod's status after which its pull counts as stalled. A pull that is slow and ends after all
/// is one of these too; that it leaves its place early harms nobody.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Watches a pull from now on, if it has a slot: its pod was created, or its status has changed.
pub(super) fn watch(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
    let timer = TimerKey::PullStalled(at.clone());
    if !pulls.has_slot(at) {
        turn.timers.stop(&timer);
        return;
    }
    pulls.set_stalled(at, false);
    turn.timers.set(timer, turn.now.monotonic + STALLED_AFTER);
}

/// Takes a pull for stalled.
pub(super) fn on_stalled(pulls: &mut Pulls, at: &DeploymentNode) {
    pulls.set_stalled(at, true);
}
