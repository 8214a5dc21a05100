//! The nodes where the rollout's own pods already pull the images, where the rollout does not wait for headstart.
//!
//! The first of these pods are bound to nodes within a fraction of a second. A prefetch pod beside one finishes no earlier and
//! slows both down. Such nodes are deferred: they get a prefetch pod when the rollout is complete, or after 10 s, because a
//! new leader reads progress from prefetch pods only.
//!
//! A Deployment may also want its new pods to be ready before its images go to other nodes. Then all nodes are deferred.

use std::collections::BTreeSet;
use std::time::Duration;

use super::canary::CANARY_WATCH;
use super::node_pulls::NodePulls;
use super::pull_state::PullState;
use crate::store::NodeName;
use crate::time::Instant;

/// The time that the rollout's first pods have to be bound to nodes. The Deployment controller, the ReplicaSet controller and
/// the scheduler take 0.1 to 0.3 s for it.
pub(super) const BIND_DELAY: Duration = Duration::from_millis(400);
/// The same where a canary goes first: more pods are bound by then, and the answer is there when the others follow.
pub(super) const BIND_DELAY_AFTER_CANARY: Duration =
    CANARY_WATCH.saturating_sub(Duration::from_millis(500));
/// The longest time for which nodes are deferred. It is longer than the pulls of most rollouts, and not too long where the
/// rollout's pods are deleted before they have pulled.
pub(super) const MAX_DEFERRAL: Duration = Duration::from_secs(10);

/// The nodes that are deferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deferral {
    /// All: new pods of the rollout have to be ready first.
    AfterReady,
    /// Not known yet: only a canary is sent.
    Unknown,
    /// The nodes in state [`PullState::Backoff`] without an attempt, until this time at most.
    Until(Instant),
    /// None.
    None,
}

impl Deferral {
    /// Defers the pending nodes among `nodes`. One node of a plan is never deferred: a fault of an image has to show
    /// within seconds. Returns the new state, and how many nodes are deferred.
    pub(super) fn defer(
        pulls: &mut NodePulls,
        nodes: &BTreeSet<String>,
        until: Instant,
    ) -> (Self, usize) {
        let mut deferred = pulls.nodes_matching(|node, pull| {
            pull.state() == PullState::Pending && nodes.contains(node)
        });
        if deferred.len() == pulls.len() {
            deferred.pop();
        }
        for node in &deferred {
            pulls.transition(node, PullState::Backoff);
        }
        match deferred.len() {
            0 => (Self::None, 0),
            count => (Self::Until(until), count),
        }
    }

    /// Ends the deferral. Returns the deferred nodes that still need a pod.
    pub(super) fn take_deferred(&mut self, pulls: &NodePulls) -> Vec<NodeName> {
        *self = Self::None;
        pulls.nodes_matching(|_, pull| pull.state() == PullState::Backoff && pull.attempts == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node_record;

    fn pulls(count: usize) -> NodePulls {
        let mut pulls = NodePulls::default();
        for index in 1..=count {
            let record = node_record(&format!("n{index}"));
            pulls.add(&record.name().into(), &record, count);
        }
        pulls
    }

    fn names(nodes: &[&str]) -> BTreeSet<String> {
        nodes.iter().map(|node| (*node).to_owned()).collect()
    }

    fn defer(pulls: &mut NodePulls, nodes: &[&str]) -> (Deferral, usize) {
        Deferral::defer(pulls, &names(nodes), Instant::default())
    }

    #[test]
    fn nodes_where_the_rollout_pulls_come_last() {
        let mut pulls = pulls(3);
        pulls.transition("n3", PullState::Created);
        let (mut deferral, count) = defer(&mut pulls, &["n2", "n3", "n9"]);
        assert_eq!((deferral, count), (Deferral::Until(Instant::default()), 1));
        let pending = pulls.nodes_matching(|_, pull| pull.state() == PullState::Pending);
        assert_eq!(pending, ["n1".into()]);
        assert_eq!(pulls.not_attempted_count(), 2);
        assert_eq!(deferral.take_deferred(&pulls), ["n2".into()]);
        assert_eq!(deferral, Deferral::None);
    }

    #[test]
    fn one_node_is_never_deferred() {
        let mut pulls = pulls(3);
        let (_, count) = defer(&mut pulls, &["n1", "n2", "n3"]);
        assert_eq!(count, 2);
        let pending = pulls.nodes_matching(|_, pull| pull.state() == PullState::Pending);
        assert_eq!(pending, ["n3".into()]);
    }

    #[test]
    fn a_deferred_node_that_has_its_images_gets_no_pod() {
        let mut pulls = pulls(3);
        let (mut deferral, _) = defer(&mut pulls, &["n1", "n2"]);
        pulls.transition("n1", PullState::Present);
        pulls.remove("n2");
        assert_eq!(deferral.take_deferred(&pulls), []);
    }

    #[test]
    fn only_a_canary_is_sent_before_the_starting_pods_are_known() {
        let now = Instant::default();
        let (mut few, mut many) = (pulls(3), pulls(30));
        assert!(few.dispatchable_groups(now, true).is_empty());
        assert_eq!(many.dispatchable_groups(now, true), [0]);
        while many.groups[0].gate.allows_canary() {
            many.groups[0].gate.on_create_sent();
        }
        // One node proves that the images can be pulled.
        many.transition("n1", PullState::Present);
        assert!(many.dispatchable_groups(now, true).is_empty());
        for pulls in [&mut few, &mut many] {
            assert_eq!(pulls.dispatchable_groups(now, false), [0]);
        }
    }
}
