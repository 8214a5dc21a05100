//! The kubelets' answers about images that they cannot pull, as far as an answer can end a hold.

use std::collections::BTreeMap;

use crate::pod::status::{Failure, FailureKind, PullAnswer};
use crate::store::NodeName;
use crate::time::Instant;

/// The answers on the nodes of a prefetch, by the position of the image.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_node: BTreeMap<NodeName, BTreeMap<usize, PullAnswer>>,
}

impl Answers {
    /// Records the failures that are seen on a node. Returns whether an answer has changed. `others_go_on` says that images
    /// without a failure are being pulled or present: their answers are over.
    pub(super) fn record(
        &mut self,
        node: &NodeName,
        failures: &[(usize, Failure)],
        others_go_on: bool,
        now: Instant,
    ) -> bool {
        let before = self.by_node.remove(node).unwrap_or_default();
        let mut after = before.clone();
        if others_go_on {
            after.retain(|index, _| failures.iter().any(|(failed, _)| failed == index));
        }
        for (index, failure) in failures {
            let known = after.remove(index);
            if let Some(answer) = PullAnswer::after(known, failure, now) {
                after.insert(*index, answer);
            }
        }
        let changed = after != before;
        if !after.is_empty() {
            self.by_node.insert(node.clone(), after);
        }
        changed
    }

    /// Forgets the answers on a node.
    pub(super) fn forget(&mut self, node: &str) {
        self.by_node.remove(node);
    }

    /// Forgets all answers: they were met on other terms.
    pub(super) fn clear(&mut self) {
        self.by_node.clear();
    }

    /// Returns the nodes that have answers.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.by_node.keys()
    }

    /// Returns whether no answer on a node ends a hold yet.
    pub(super) fn may_pass(&self, node: &str, now: Instant) -> bool {
        let answers = self.by_node.get(node);
        answers.is_some_and(|answers| !answers.values().any(|answer| stands(answer, now)))
    }

    /// Returns whether the registry's host does not exist for a node, for so long that it ends a hold.
    pub(super) fn lacks_host(&self, node: &str, now: Instant) -> bool {
        let answers = self.by_node.get(node).into_iter();
        answers
            .flat_map(BTreeMap::values)
            .any(|answer| answer.kind == FailureKind::HostNotFound && stands(answer, now))
    }

    /// Returns when the next answer ends a hold.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let answers = self.by_node.values().flat_map(BTreeMap::values);
        let due = answers.filter_map(|answer| answer.ends_hold_at());
        due.filter(|at| *at > now).min()
    }
}

fn stands(answer: &PullAnswer, now: Instant) -> bool {
    answer.ends_hold_at().is_some_and(|at| at <= now)
}
