//! The nodes of a Deployment's prefetch, with the state of the pull on each and counts of the states.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::absence::{Absence, Acknowledgement};
use super::answers::Answers;
use super::canary::{ArchGroup, CANARY_THRESHOLD, CanaryGate, Counts, FailureScope};
use super::pull_state::PullState;
use crate::store::{NodeName, NodeRecord};
use crate::time::Instant;

mod recount;

/// One node of a prefetch.
#[derive(Debug)]
pub(super) struct NodePull {
    /// The UID of the node: a later node by the same name has none of its images.
    pub(super) uid: Arc<str>,
    /// The time at which the node joined.
    pub(super) node_created_at: Option<Timestamp>,
    /// The position of its architecture among the groups.
    group: usize,
    state: PullState,
    /// The number of times that its pod was lost.
    pub(super) attempts: u8,
    /// A create was requested in this prefetch. If nothing brings the images, its pod is lost.
    pub(super) create_requested: bool,
    /// The reasons for which a hold does not wait for it.
    pub(super) absence: Absence,
    pub(super) acknowledgement: Acknowledgement,
}

impl NodePull {
    pub(super) fn state(&self) -> PullState {
        self.state
    }

    /// Returns whether it is not decided, and not waited for.
    pub(super) fn is_absent(&self) -> bool {
        self.absence.is_any() && !self.state.is_final()
    }

    /// Returns the position of its architecture among the groups.
    pub(super) fn group(&self) -> usize {
        self.group
    }
}

/// All nodes of a prefetch. States change by [`Self::transition`] alone, which counts them.
#[derive(Debug, Default)]
pub(super) struct NodePulls {
    all: BTreeMap<NodeName, NodePull>,
    pub(super) groups: Vec<ArchGroup>,
    /// The answers of the kubelets that cannot pull.
    pub(super) answers: Answers,
    /// The group that sends next.
    next_group: usize,
    /// Nodes whose state is not final.
    pending: usize,
    abandoned: usize,
    /// The number of pulls on each node that DiskPressure ended.
    disk_pressure: BTreeMap<NodeName, u32>,
    /// The number of times that the nodes were tried again where an image failed for good.
    pub(super) failed_retries: u32,
}

impl NodePulls {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn contains(&self, node: &str) -> bool {
        self.all.contains_key(node)
    }

    pub(super) fn get(&self, node: &str) -> Option<&NodePull> {
        self.all.get(node)
    }

    pub(super) fn get_mut(&mut self, node: &str) -> Option<&mut NodePull> {
        self.all.get_mut(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeName, &NodePull)> {
        self.all.iter()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &NodeName> {
        self.all.keys()
    }

    /// Returns the number of nodes whose state is not final.
    pub(super) fn pending_count(&self) -> usize {
        self.pending
    }

    /// Adds a node. Returns whether it is new. `planned` is the number of nodes in the plan: few are sent to at once.
    pub(super) fn add(&mut self, node: &NodeName, record: &NodeRecord, planned: usize) -> bool {
        let architecture = record.info.architecture();
        let known = self
            .groups
            .iter()
            .position(|group| *group.architecture == *architecture);
        let group = known.unwrap_or_else(|| {
            self.groups
                .push(ArchGroup::new(architecture, planned > CANARY_THRESHOLD));
            self.groups.len() - 1
        });
        let pull = NodePull {
            uid: record.uid.clone(),
            node_created_at: record.created,
            group,
            state: PullState::Pending,
            attempts: 0,
            create_requested: false,
            absence: Absence::default(),
            acknowledgement: Acknowledgement::default(),
        };
        let new = self.all.insert(node.clone(), pull).is_none();
        if new {
            self.pending += 1;
            self.groups[group].ready.push_back(node.clone());
        }
        new
    }

    /// Removes a node. Returns whether it was there.
    pub(super) fn remove(&mut self, node: &str) -> bool {
        // Its state is no longer counted.
        self.transition(node, PullState::Pending);
        self.answers.forget(node);
        let removed = self.all.remove(node).is_some();
        self.pending -= usize::from(removed);
        removed
    }

    /// Records that DiskPressure ends the pull on a node. Returns whether the pull had begun.
    pub(super) fn record_disk_pressure(&mut self, node: &NodeName) -> bool {
        let pull = self.all.get(node);
        let begun = pull.is_some_and(|p| p.create_requested || p.state != PullState::Pending);
        if begun {
            *self.disk_pressure.entry(node.clone()).or_default() += 1;
        }
        begun
    }

    /// Lets every node be tried again, on other terms.
    pub(super) fn forget_disk_pressure(&mut self) {
        self.disk_pressure.clear();
    }

    /// Returns whether DiskPressure ended the pull on a node twice: the images may be too much for it.
    pub(super) fn is_too_small(&self, node: &str) -> bool {
        self.disk_pressure.get(node).is_some_and(|ended| *ended > 1)
    }

    /// Returns the nodes that match, in the order of their names.
    pub(super) fn nodes_matching(&self, is: impl Fn(&str, &NodePull) -> bool) -> Vec<NodeName> {
        let pulls = self.all.iter();
        pulls
            .filter(|(node, pull)| is(node, pull))
            .map(|(node, _)| node.clone())
            .collect()
    }

    /// Changes the state of a node, and the counts.
    pub(super) fn transition(&mut self, node: &str, state: PullState) {
        let Some(pull) = self.all.get_mut(node) else {
            return;
        };
        if state == PullState::Present {
            self.answers.forget(node);
        }
        let before = std::mem::replace(&mut pull.state, state);
        let counts = &mut self.groups[pull.group].counts;
        for (state, entering) in [(before, false), (state, true)] {
            let step = |count: &mut usize| {
                *count = if entering { *count + 1 } else { *count - 1 };
            };
            match state {
                PullState::Present => step(&mut counts.present),
                PullState::Failed(FailureScope::Plan) => step(&mut counts.failing),
                PullState::Failed(FailureScope::Architecture) => {
                    step(&mut counts.failing);
                    step(&mut counts.platform);
                }
                PullState::Failed(FailureScope::Node) | PullState::Abandoned => {
                    step(&mut self.abandoned)
                }
                _ => {}
            }
            if !state.is_final() {
                step(&mut self.pending);
            }
        }
    }

    /// Queues a node for a pod.
    pub(super) fn enqueue(&mut self, node: &str) {
        self.transition(node, PullState::Pending);
        if let Some((name, pull)) = self.all.get_key_value(node) {
            self.groups[pull.group].ready.push_back(name.clone());
        }
    }

    /// Queues a node again where it was taken from.
    pub(super) fn requeue_front(&mut self, node: &NodeName) {
        if let Some((_, group)) = self.group_of(node) {
            group.ready.push_front(node.clone());
        }
    }

    /// Lets each large group begin with a canary again.
    pub(super) fn restart_canaries(&mut self) {
        for (index, group) in self.groups.iter_mut().enumerate() {
            let nodes = self.all.values().filter(|pull| pull.group == index);
            if nodes.count() > CANARY_THRESHOLD {
                group.gate = CanaryGate::canary();
            }
        }
    }

    /// Returns the architecture group of a node, with its position.
    pub(super) fn group_of(&mut self, node: &str) -> Option<(usize, &mut ArchGroup)> {
        let index = self.all.get(node)?.group;
        Some((index, self.groups.get_mut(index)?))
    }

    /// Returns the groups that may send now, in turn; with `canary_only`, only those whose canary has room.
    pub(super) fn dispatchable_groups(&mut self, now: Instant, canary_only: bool) -> Vec<usize> {
        for group in &mut self.groups {
            group.gate.update(now);
        }
        let count = self.groups.len();
        self.next_group = self.next_group.wrapping_add(1);
        let first = self.next_group;
        (0..count)
            .map(|offset| (first + offset) % count)
            .filter(|index| self.may_dispatch(*index, canary_only))
            .collect()
    }

    fn may_dispatch(&self, index: usize, canary_only: bool) -> bool {
        let group = &self.groups[index];
        // One node with all images proves that they can be pulled.
        let proven = group.counts.present > 0 || group.gate == CanaryGate::Open;
        let may = group.gate.allows_canary() || !canary_only && proven;
        may && self.prospect(index).allows_pod()
    }

    /// Returns whether a pending node is in the queue of a group that may send now.
    pub(super) fn is_dispatchable(&self, node: &str, canary_only: bool) -> bool {
        let Some(pull) = self.all.get(node) else {
            return false;
        };
        self.groups[pull.group]
            .ready
            .iter()
            .any(|ready| **ready == *node)
            && self.may_dispatch(pull.group, canary_only)
    }

    /// Returns the counts of all groups together.
    pub(super) fn totals(&self) -> Counts {
        let counts = self.groups.iter().map(|group| group.counts);
        counts.fold(Counts::default(), |a, b| Counts {
            present: a.present + b.present,
            failing: a.failing + b.failing,
            platform: a.platform + b.platform,
        })
    }

    /// Returns the number of nodes that ended without all images.
    pub(super) fn failed_count(&self) -> usize {
        self.totals().failing + self.abandoned
    }

    /// Returns the number of nodes that no pod was created for yet.
    pub(super) fn not_attempted_count(&self) -> usize {
        let pulls = self.all.values();
        let not_attempted = |pull: &&NodePull| match pull.state {
            PullState::Pending => true,
            PullState::Backoff => !pull.create_requested,
            _ => false,
        };
        pulls.filter(not_attempted).count()
    }
}
