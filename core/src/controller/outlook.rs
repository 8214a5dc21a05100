//! Counts the nodes of a prefetch that may still get the images for which a held rollout waits, and those that cannot.

use super::canary::{Counts, FailureScope, is_blocked_by_failure};
use super::node_pulls::{NodePull, NodePulls};
use super::pull_state::PullState;
use crate::time::Instant;

/// The nodes of a prefetch that do not have all images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outlook {
    /// Nodes that may get them.
    pub(super) pending: usize,
    /// Nodes that cannot get them, because the images cannot be had.
    pub(super) failed: usize,
    /// Nodes that do not get them by a fault of their own.
    pub(super) abandoned: usize,
}

/// Returns the counts as of now.
///
/// A failure that has not stood for long enough counts as pending. A registry's host that does not exist for one node is that
/// node's fault; for two nodes, or for all that are left, it does not exist, as long as no node has the images.
pub(super) fn outlook(nodes: &NodePulls, now: Instant) -> Outlook {
    let answers = &nodes.answers;
    let (mut passing, mut without_host) = (0, 0);
    let mut counts: Vec<Counts> = nodes.groups.iter().map(|group| group.counts).collect();
    for name in answers.nodes() {
        let Some(pull) = nodes.get(name) else {
            continue;
        };
        match pull.state() {
            PullState::Failed(FailureScope::Node) => {}
            PullState::Failed(scope) if answers.may_pass(name, now) => {
                let counts = &mut counts[pull.group()];
                counts.failing -= 1;
                counts.platform -= usize::from(scope == FailureScope::Architecture);
                passing += 1;
            }
            state if !state.is_final() && answers.lacks_host(name, now) => without_host += 1,
            _ => {}
        }
    }
    let mut outlook = Outlook {
        pending: nodes.pending_count() + passing,
        failed: unpullable(nodes, &counts, now),
        abandoned: nodes.abandoned(),
    };
    let present = nodes.totals().present;
    if present == 0 && without_host > 0 && (without_host > 1 || outlook.pending == 1) {
        outlook.failed = nodes.len() - outlook.abandoned;
    } else {
        outlook.abandoned += without_host;
        outlook.pending -= without_host;
    }
    outlook
}

/// Returns the number of nodes that cannot get all images: one cannot be pulled there, or their group is blocked by one
/// that failed elsewhere. `counts` are those of each group.
fn unpullable(nodes: &NodePulls, counts: &[Counts], now: Instant) -> usize {
    let all = || counts.iter().copied();
    let blocked: Vec<bool> = all()
        .map(|group| is_blocked_by_failure(group, all()))
        .collect();
    if !blocked.contains(&true) {
        return all().map(|counts| counts.failing).sum();
    }
    let cannot = |node: &str, pull: &NodePull| match pull.state() {
        PullState::Present | PullState::Abandoned | PullState::Failed(FailureScope::Node) => false,
        PullState::Failed(_) if !nodes.answers.may_pass(node, now) => true,
        _ => blocked[pull.group()],
    };
    nodes.nodes_matching(cannot).len()
}
