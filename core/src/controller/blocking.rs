//! Decides whether an image that failed on some nodes can be had on the others.
//!
//! One node may lie: its mirror is wrong, its credentials are. So a definite failure counts for other nodes when two nodes
//! report it, or when no other node is left that could answer. Until then one more node is asked at a time.

use super::canary::Counts;

/// The most nodes that are asked at the same time while one node has failed and none has the images. One may be slow.
const ASKED_IN_DOUBT: usize = 2;

/// The nodes of one architecture, by their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupAnswers {
    /// The nodes that have answered.
    pub(super) counts: Counts,
    /// Nodes that may still answer.
    pub(super) open: usize,
    /// Of these, those that have a pod.
    pub(super) asked: usize,
}

/// The meaning of the failures of a plan for one of its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prospect {
    /// Nothing keeps the group from being sent to.
    Open,
    /// One node has failed and none has the images: another has to confirm it. `asked` nodes are about to answer.
    Doubt {
        /// Nodes that have a pod and have not answered.
        asked: usize,
    },
    /// The images cannot be had.
    Blocked,
}

impl Prospect {
    /// Returns whether one more node may be asked.
    pub(super) fn allows_pod(self) -> bool {
        match self {
            Self::Open => true,
            Self::Doubt { asked } => asked < ASKED_IN_DOUBT,
            Self::Blocked => false,
        }
    }
}

/// Returns the meaning of the failures for a group. `all` are all groups of the plan.
///
/// A node that has all images proves that they can be pulled on its architecture. A failure on another node is then that
/// node's own fault. The kubelet goes on trying the pods that exist, so a failure that heals unblocks the rest.
pub(super) fn prospect(group: &GroupAnswers, all: &[GroupAnswers]) -> Prospect {
    let sum = |of: fn(&GroupAnswers) -> usize| all.iter().map(of).sum::<usize>();
    let Counts {
        present,
        failing,
        platform,
    } = group.counts;
    let general = sum(|group| group.counts.failing - group.counts.platform);
    let of_group = if present == 0 { failing } else { 0 };
    let of_plan = if sum(|group| group.counts.present) == 0 {
        general
    } else {
        0
    };
    let alone_in_group = of_group > 0 && platform > 0 && group.open == 0;
    let alone_in_plan = of_plan > 0 && sum(|group| group.open) == 0;
    if of_group > 1 || of_plan > 1 || alone_in_group || alone_in_plan {
        return Prospect::Blocked;
    }
    if of_plan > 0 {
        let asked = sum(|group| group.asked);
        return Prospect::Doubt { asked };
    }
    if of_group > 0 && group.open > 0 {
        let asked = group.asked;
        return Prospect::Doubt { asked };
    }
    Prospect::Open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(present: usize, failing: usize, platform: usize, open: usize) -> GroupAnswers {
        let counts = Counts {
            present,
            failing,
            platform,
        };
        GroupAnswers {
            counts,
            open,
            asked: open.min(1),
        }
    }

    /// The prospects for all groups.
    fn prospects(all: &[GroupAnswers]) -> Vec<Prospect> {
        all.iter().map(|group| prospect(group, all)).collect()
    }

    use Prospect::{Blocked, Open};
    const DOUBT: Prospect = Prospect::Doubt { asked: 1 };

    #[test]
    fn two_nodes_that_say_so_stop_the_plan_and_one_does_not() {
        assert_eq!(prospects(&[group(0, 0, 0, 9)]), [Open]);
        assert_eq!(prospects(&[group(0, 1, 0, 9)]), [DOUBT]);
        assert_eq!(prospects(&[group(0, 2, 0, 9)]), [Blocked]);
        assert!(DOUBT.allows_pod(), "a second node is asked");
        assert!(!Prospect::Doubt { asked: 2 }.allows_pod());
    }

    #[test]
    fn the_only_node_that_is_left_is_believed() {
        assert_eq!(prospects(&[group(0, 1, 0, 0)]), [Blocked]);
        assert_eq!(
            prospects(&[group(0, 1, 1, 0), group(5, 0, 0, 1)]),
            [Blocked, Open]
        );
    }

    #[test]
    fn a_node_with_all_images_proves_that_the_others_fail_by_a_fault_of_their_own() {
        assert_eq!(prospects(&[group(1, 1, 0, 3)]), [Open]);
        assert_eq!(prospects(&[group(1, 3, 0, 3)]), [Open]);
        // Another architecture has them; the failing one is alone of its kind, and any node may fail to find an image.
        assert_eq!(
            prospects(&[group(0, 1, 0, 0), group(1, 0, 0, 3)]),
            [Open, Open]
        );
        let two_of_a_kind = [group(0, 2, 0, 3), group(1, 0, 0, 3)];
        assert_eq!(prospects(&two_of_a_kind), [Blocked, Open]);
    }

    #[test]
    fn a_missing_image_concerns_all_architectures_and_a_missing_platform_its_own() {
        assert_eq!(
            prospects(&[group(0, 1, 0, 0), group(0, 1, 0, 5)]),
            [Blocked; 2]
        );
        let doubt = Prospect::Doubt { asked: 1 };
        assert_eq!(
            prospects(&[group(0, 1, 0, 0), group(0, 0, 0, 5)]),
            [doubt; 2]
        );
        assert_eq!(
            prospects(&[group(0, 2, 2, 5), group(0, 0, 0, 5)]),
            [Blocked, Open]
        );
        assert_eq!(
            prospects(&[group(0, 1, 1, 5), group(0, 0, 0, 5)]),
            [DOUBT, Open]
        );
    }
}
