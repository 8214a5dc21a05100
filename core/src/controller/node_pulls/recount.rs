//! Answers that take a look at every node of a prefetch.

use std::time::Duration;

use super::NodePulls;
use crate::controller::blocking::{GroupAnswers, Prospect, prospect};
use crate::controller::canary::{Counts, FailureScope};
use crate::controller::pull_state::PullState;

impl NodePulls {
    /// Returns what the failures mean for a group.
    pub(super) fn prospect(&self, index: usize) -> Prospect {
        let (group, all) = (self.groups[index].counts, self.totals());
        if all.failing == 0 || all.present > 0 && (group.failing == 0 || group.present > 0) {
            return Prospect::Open;
        }
        let answers = self.group_answers(|_| true);
        prospect(&answers[index], &answers)
    }

    /// Returns the answers of each group. `stands` says whether the failure of a node counts; otherwise it may pass.
    pub(in super::super) fn group_answers(
        &self,
        stands: impl Fn(&str) -> bool,
    ) -> Vec<GroupAnswers> {
        let mut groups = vec![GroupAnswers::default(); self.groups.len()];
        for (node, pull) in &self.all {
            let group = &mut groups[pull.group];
            match pull.state {
                PullState::Present => group.counts.present += 1,
                PullState::Failed(FailureScope::Node) | PullState::Abandoned => {}
                PullState::Failed(scope) if stands(node) => {
                    group.counts.failing += 1;
                    group.counts.platform += usize::from(scope == FailureScope::Architecture);
                }
                _ if pull.is_absent() => {}
                state => {
                    let asked = !matches!(state, PullState::Pending | PullState::Backoff);
                    group.open += 1;
                    group.asked += usize::from(asked);
                }
            }
        }
        groups
    }

    /// Returns the times that the kubelets took to acknowledge a pod.
    pub(in super::super) fn acknowledged_after(&self) -> Vec<Duration> {
        let pulls = self.all.values();
        pulls.filter_map(|pull| pull.acknowledgement.took).collect()
    }

    /// Checks the counts against a recount.
    ///
    /// # Errors
    /// Says which count is wrong.
    pub(in super::super) fn check(&self) -> Result<(), String> {
        let mut groups = vec![Counts::default(); self.groups.len()];
        let (mut pending, mut abandoned) = (0, 0);
        for pull in self.all.values() {
            let counts = &mut groups[pull.group];
            pending += usize::from(!pull.state.is_final());
            match pull.state {
                PullState::Present => counts.present += 1,
                PullState::Failed(FailureScope::Plan) => counts.failing += 1,
                PullState::Failed(FailureScope::Architecture) => {
                    counts.failing += 1;
                    counts.platform += 1;
                }
                PullState::Failed(FailureScope::Node) | PullState::Abandoned => abandoned += 1,
                _ => {}
            }
        }
        let counted: Vec<Counts> = self.groups.iter().map(|group| group.counts).collect();
        let recount = (pending, abandoned, groups);
        let count = (self.pending, self.abandoned, counted);
        if recount == count {
            Ok(())
        } else {
            Err(format!(
                "counts of nodes are {count:?}, and are {recount:?} by a recount"
            ))
        }
    }
}
