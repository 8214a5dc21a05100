//! The state of the pull on one node.

use super::canary::{FailureScope, failure_scope};
use crate::pod::status::Failure;

/// The state of the pull on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PullState {
    /// A pod is to be created.
    Pending,
    /// A pod is to be created after a pause.
    Backoff,
    /// A create was requested, and the watch has not shown the pod yet.
    Created,
    /// A pod brings the images.
    Pulling,
    /// All images are on the node.
    Present,
    /// An image cannot be pulled; the scope says for which other nodes that holds.
    Failed(FailureScope),
    /// All attempts were lost.
    Abandoned,
}

impl PullState {
    /// Returns whether nothing more is done for the node, unless the wanted images or their terms change.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Present | Self::Failed(_) | Self::Abandoned)
    }
}

/// Returns the state of a node where images cannot be pulled: the failure with the widest scope decides.
pub(super) fn failed_state(failures: &[(usize, Failure)]) -> PullState {
    let scopes = failures
        .iter()
        .map(|(_, failure)| failure_scope(failure.kind));
    let widest = scopes.max_by_key(|scope| match scope {
        FailureScope::Node => 0,
        FailureScope::Architecture => 1,
        FailureScope::Plan => 2,
    });
    PullState::Failed(widest.unwrap_or(FailureScope::Node))
}
