//! All prefetches, with the slots and expectations of their pulls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::budget::{LimitReached, PullBudget, PullLimits};
use super::expectations::Expectations;
use super::fair_queue::FairQueue;
use super::met_quotas::MetQuotas;
use super::node_marks::NodeMarks;
use super::pod_counts::PodCounts;
use super::prefetch::Prefetch;
use super::pull_state::PullState;
use super::sharing::Sharing;
use super::start_queue::{StartDecision, StartQueue};
use crate::store::{DeploymentNode, NodeName};
use crate::workload::DeploymentKey;

/// The pull state of the whole cluster.
#[derive(Debug)]
pub(super) struct Pulls {
    pub(super) prefetches: BTreeMap<DeploymentKey, Prefetch>,
    pub(super) expectations: Expectations,
    /// The Deployments that wait until fewer of their namespace pull.
    pub(super) starts: StartQueue,
    pub(super) queue: FairQueue,
    pub(super) sharing: Sharing,
    /// The nodes where a pull has made no progress for a while. A kubelet pulls one image after another.
    pub(super) quiet: NodeMarks,
    /// The nodes whose kubelets do not acknowledge pods.
    pub(super) silent: NodeMarks,
    pub(super) quotas: MetQuotas,
    pub(super) pod_counts: PodCounts,
    budget: PullBudget,
    /// Deployments that wait for a node to have a free slot.
    parked_on_node: BTreeMap<NodeName, BTreeSet<DeploymentKey>>,
    /// Deployments that wait for a registry to have a free slot.
    parked_on_registry: BTreeSet<DeploymentKey>,
}

impl Pulls {
    pub(super) fn new(limits: PullLimits) -> Self {
        Self {
            prefetches: BTreeMap::new(),
            expectations: Expectations::default(),
            starts: StartQueue::new(limits.deployments),
            queue: FairQueue::default(),
            sharing: Sharing::default(),
            silent: NodeMarks::default(),
            quiet: NodeMarks::default(),
            quotas: MetQuotas::default(),
            pod_counts: PodCounts::default(),
            budget: PullBudget::new(limits),
            parked_on_node: BTreeMap::new(),
            parked_on_registry: BTreeSet::new(),
        }
    }

    /// Returns the state of a node in a Deployment's prefetch.
    pub(super) fn state(&self, at: &DeploymentNode) -> Option<PullState> {
        let pull = self.prefetches.get(&at.key)?.nodes.get(&at.node)?;
        Some(pull.state())
    }

    /// Changes the state of a node.
    pub(super) fn transition(&mut self, at: &DeploymentNode, state: PullState) {
        if let Some(prefetch) = self.prefetches.get_mut(&at.key) {
            prefetch.nodes.transition(&at.node, state);
        }
    }

    /// Queues a node for a pod, and its Deployment.
    pub(super) fn enqueue(&mut self, at: &DeploymentNode) {
        if let Some(prefetch) = self.prefetches.get_mut(&at.key) {
            prefetch.nodes.enqueue(&at.node);
            self.queue.push(&at.key);
        }
    }

    /// Lets the prefetch of a Deployment start, or wait for its turn.
    pub(super) fn request_start(&mut self, key: &DeploymentKey) -> StartDecision {
        self.starts.request(key, &self.prefetches)
    }

    /// Adds a prefetch, whose Deployment has none.
    pub(super) fn insert_prefetch(&mut self, prefetch: Prefetch) {
        self.sharing.add(&prefetch.workload);
        let key = prefetch.workload.key.clone();
        self.prefetches.insert(key, prefetch);
    }

    /// Returns the Deployments that pull on a node, and make progress.
    pub(super) fn pulling_on(&self, node: &str) -> impl Iterator<Item = &DeploymentKey> {
        self.budget.making_progress(node)
    }

    /// Returns the Deployments that pull on a node.
    pub(super) fn with_slot_on(&self, node: &str) -> impl Iterator<Item = &DeploymentKey> {
        self.budget.on_node(node)
    }

    /// Returns the nodes that pull.
    pub(super) fn nodes_pulling(&self) -> usize {
        self.budget.nodes_pulling()
    }

    /// Returns whether another node may begin to pull.
    pub(super) fn has_capacity(&self) -> bool {
        self.budget.has_capacity()
    }

    /// Reserves a slot for a pull of these images. If a limit is reached, the Deployment waits for the node or the registry, or
    /// stays in the queue.
    pub(super) fn reserve_slot(
        &mut self,
        at: &DeploymentNode,
        registries: &Arc<[Box<str>]>,
    ) -> Result<(), LimitReached> {
        let Some(limit) = self.budget.check(at, registries) else {
            self.budget.reserve(at, registries);
            return Ok(());
        };
        match limit {
            LimitReached::Node => {
                let parked = self.parked_on_node.entry(at.node.clone()).or_default();
                parked.insert(at.key.clone());
            }
            LimitReached::Registry => {
                self.parked_on_registry.insert(at.key.clone());
            }
            // A slot is free when a node is done.
            LimitReached::Cluster => self.queue.push(&at.key),
        }
        Err(limit)
    }

    /// Counts a pull that is in progress. Returns whether it had no slot, as after a change of leader.
    pub(super) fn reserve_for_existing_pod(&mut self, at: &DeploymentNode) -> bool {
        if self.has_slot(at) {
            return false;
        }
        let Some(prefetch) = self.prefetches.get_mut(&at.key) else {
            return false;
        };
        let all: Vec<usize> = (0..prefetch.workload.images.len()).collect();
        let registries = prefetch.pull_set(&all).registries;
        self.budget.reserve(at, &registries);
        true
    }

    /// Releases the slot of a pull. The Deployments that waited for its node, or for a registry, are queued again.
    pub(super) fn release_slot(&mut self, at: &DeploymentNode) {
        if !self.budget.release(at) {
            return;
        }
        self.quiet.remove(at);
        self.sharing.wake(at);
        self.queue_parked(at);
    }

    /// Returns the next node whose marks have changed.
    pub(super) fn pop_marked(&mut self) -> Option<NodeName> {
        let silent = self.silent.pop_changed();
        silent.or_else(|| self.quiet.pop_changed())
    }

    /// Returns whether no prefetch is to be looked at.
    pub(super) fn is_settled(&self) -> bool {
        self.sharing.is_quiet() && self.silent.is_unchanged() && self.quiet.is_unchanged()
    }

    /// Returns whether a pull has a slot.
    pub(super) fn has_slot(&self, at: &DeploymentNode) -> bool {
        self.budget.has_slot(at)
    }

    /// Records whether a pull makes progress. One that does not leaves its place on the node to others.
    pub(super) fn set_stalled(&mut self, at: &DeploymentNode, stalled: bool) {
        if self.budget.set_stalled(at, stalled) && stalled {
            self.sharing.wake(at);
            self.queue_parked(at);
        }
    }

    /// Queues the Deployments again that wait for a node, or for a registry.
    fn queue_parked(&mut self, at: &DeploymentNode) {
        for key in self.parked_on_node.remove(&at.node).unwrap_or_default() {
            let node = at.node.clone();
            let waiting = DeploymentNode { key, node };
            if self.state(&waiting) == Some(PullState::Pending) {
                self.enqueue(&waiting);
            }
        }
        for key in std::mem::take(&mut self.parked_on_registry) {
            self.queue.push(&key);
        }
    }

    /// Releases the slot of a pull that ends, unless a create is in flight. Its pod may come to the node, or to the next by
    /// that name.
    pub(super) fn release_slot_without_create(&mut self, at: &DeploymentNode) {
        if !self.expectations.contains(at) {
            self.release_slot(at);
        }
    }

    /// Forgets a node that is gone.
    pub(super) fn forget_node(&mut self, node: &str) {
        self.sharing.forget_node(node);
        self.silent.forget_node(node);
        self.quiet.forget_node(node);
        self.pod_counts.forget_node(node);
        self.parked_on_node.remove(node);
    }

    /// Cancels a Deployment's prefetch and returns whether there was one. Garbage collection handles its existing pods;
    /// pods that are being created are handled when the watch shows them.
    pub(super) fn cancel_prefetch(&mut self, key: &DeploymentKey) -> bool {
        let Some(prefetch) = self.prefetches.remove(key) else {
            return false;
        };
        self.sharing.remove(&prefetch.workload);
        for node in prefetch.nodes.names() {
            let at = DeploymentNode {
                key: key.clone(),
                node: node.clone(),
            };
            self.release_slot_without_create(&at);
        }
        true
    }

    /// Has the nodes of a Deployment that wait for the pulls of others be looked at.
    pub(super) fn wake_waiting(&mut self, key: &DeploymentKey) {
        if let Some(prefetch) = self.prefetches.get(key) {
            for node in prefetch.nodes.names() {
                let at = DeploymentNode {
                    key: key.clone(),
                    node: node.clone(),
                };
                self.sharing.look_at(at);
            }
        }
    }

    /// Records that no pod was created: frees the slot, and queues the node again if it is pending.
    pub(super) fn clear_expectation(&mut self, at: &DeploymentNode) {
        self.expectations.clear_expectation(at);
        self.sharing.wake(at);
        self.release_slot(at);
        for key in self.quotas.take_parked(&at.key.namespace) {
            self.queue.push(&key);
        }
        if self.state(at) == Some(PullState::Pending) {
            self.enqueue(at);
        }
    }

    /// Checks the counts of slots.
    ///
    /// # Errors
    /// Says which count is wrong.
    pub(super) fn check_slots(&self) -> Result<(), String> {
        self.budget.check_counts()
    }

    /// Returns whether a Deployment waits for a slot, or for the pull of another.
    pub(super) fn is_parked(&self, at: &DeploymentNode) -> bool {
        self.sharing.is_waiting(at)
            || self.parked_on_registry.contains(&at.key)
            || self.quotas.is_parked(&at.key)
            || self.pod_counts.is_waiting(at)
            || self
                .parked_on_node
                .get(&at.node)
                .is_some_and(|keys| keys.contains(&at.key))
    }
}
