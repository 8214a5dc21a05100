//! Goes on with Deployments that follow the pull of another, when that has changed.

use super::pull::sync_node;
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::turn::Turn;

/// Looks at the followers of pulls that have changed.
pub(super) fn sync_followers(pulls: &mut Pulls, turn: &mut Turn<'_>) {
    while let Some(at) = pulls.sharing.pop_awake() {
        match pulls.state(&at) {
            Some(PullState::Pending) => pulls.enqueue(&at),
            Some(_) => sync_node(pulls, &at, turn),
            None => {}
        }
    }
}
