//! Counts the nodes of a prefetch that may still get the images for which a held rollout waits, and those that cannot.

use super::blocking::{Prospect, prospect};
use super::canary::FailureScope;
use super::node_pulls::NodePulls;
use super::pull_state::PullState;
use crate::time::Instant;

/// The nodes of a prefetch that do not have all images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outlook {
    /// Nodes that may get them.
    pub(super) pending: usize,
    /// Nodes that cannot get them, because the images cannot be had.
    pub(super) failed: usize,
    /// Nodes that do not get them by a fault of their own, or are not waited for.
    pub(super) abandoned: usize,
}

/// Returns the counts as of now.
///
/// A failure counts as pending that has not stood for long enough, or that no second node has confirmed. Where other nodes have
/// the images, a single failure is that node's own fault. A registry's host that does not exist for one node is that node's
/// fault too; for two nodes, or for all that are left, it does not exist, as long as no node has the images.
pub(super) fn outlook(nodes: &NodePulls, now: Instant) -> Outlook {
    let answers = &nodes.answers;
    let stands = |node: &str| !answers.may_pass(node, now);
    let groups = nodes.group_answers(stands);
    let prospects: Vec<Prospect> = groups
        .iter()
        .map(|group| prospect(group, &groups))
        .collect();
    let mut outlook = Outlook::default();
    let mut without_host = 0;
    for (node, pull) in nodes.iter() {
        let group = pull.group();
        let count = match (pull.state(), prospects[group]) {
            (PullState::Present, _) => continue,
            (PullState::Abandoned | PullState::Failed(FailureScope::Node), _) => {
                &mut outlook.abandoned
            }
            _ if pull.is_absent() => &mut outlook.abandoned,
            (_, Prospect::Blocked) => &mut outlook.failed,
            (PullState::Failed(_), Prospect::Open) if stands(node) => {
                if groups[group].counts.failing > 1 {
                    &mut outlook.failed
                } else {
                    &mut outlook.abandoned
                }
            }
            (state, _) if !state.is_final() && answers.lacks_host(node, now) => &mut without_host,
            _ => &mut outlook.pending,
        };
        *count += 1;
    }
    let present = nodes.totals().present;
    if present == 0 && without_host > 0 && (without_host > 1 || outlook.pending == 0) {
        outlook.pending += without_host;
        outlook.failed = nodes.len() - outlook.abandoned;
    } else {
        outlook.abandoned += without_host;
    }
    outlook
}
