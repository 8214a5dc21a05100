//! Counts the pulls in progress, and decides whether one more may begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::DeploymentNode;
use crate::workload::DeploymentKey;

/// The limits for pulls at the same time. Zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullLimits {
    /// Nodes that pull.
    pub nodes: usize,
    /// Nodes that pull from one registry.
    pub per_registry: usize,
    /// Prefetch pods of one namespace on one node that are not done.
    pub per_node: usize,
    /// Prefetch pods of all namespaces on one node that are not done.
    pub per_node_in_all: usize,
    /// Deployments of one namespace that pull.
    pub deployments: usize,
    /// Prefetch pods in the cluster that have ended. Those that ended first are deleted.
    pub ended: usize,
}

/// The limit that one more pull would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// The cluster.
    Cluster,
    /// One of the registries.
    Registry,
    /// The node.
    Node,
}

/// The progress of a pull that has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PullProgress {
    Going,
    /// There is none. The pull counts for its namespace, and not for the node.
    Stalled,
}

/// The pulls in progress.
#[derive(Debug)]
pub(super) struct PullBudget {
    limits: PullLimits,
    reserved: BTreeMap<DeploymentNode, Arc<[Box<str>]>>,
    /// The pulls on each node.
    nodes: BTreeMap<Arc<str>, BTreeMap<DeploymentKey, PullProgress>>,
    registries: BTreeMap<Box<str>, usize>,
}

impl PullBudget {
    pub(super) fn new(limits: PullLimits) -> Self {
        Self {
            limits,
            reserved: BTreeMap::new(),
            nodes: BTreeMap::new(),
            registries: BTreeMap::new(),
        }
    }

    /// Returns whether another node may begin to pull.
    pub(super) fn has_capacity(&self) -> bool {
        self.limits.nodes == 0 || self.nodes.len() < self.limits.nodes
    }

    /// Returns the limit that a pull on this node from these registries would exceed.
    pub(super) fn check(
        &self,
        at: &DeploymentNode,
        registries: &[Box<str>],
    ) -> Option<LimitReached> {
        let reached = |limit: usize, now: usize| limit > 0 && now >= limit;
        let on_node = self.making_progress(&at.node).count();
        let of_namespace = |key: &&DeploymentKey| key.namespace == at.key.namespace;
        let own = self.on_node(&at.node).filter(of_namespace).count();
        if reached(self.limits.per_node, own) || reached(self.limits.per_node_in_all, on_node) {
            return Some(LimitReached::Node);
        }
        if !self.nodes.contains_key(&at.node) && !self.has_capacity() {
            return Some(LimitReached::Cluster);
        }
        let from = |registry: &str| self.registries.get(registry).copied().unwrap_or(0);
        registries
            .iter()
            .any(|registry| reached(self.limits.per_registry, from(registry)))
            .then_some(LimitReached::Registry)
    }

    /// Reserves a slot. A pull that is in progress already is counted even beyond the limits.
    pub(super) fn reserve(&mut self, at: &DeploymentNode, registries: &Arc<[Box<str>]>) {
        if self.reserved.contains_key(at) {
            return;
        }
        let on_node = self.nodes.entry(at.node.clone()).or_default();
        on_node.insert(at.key.clone(), PullProgress::Going);
        for registry in registries.iter() {
            *self.registries.entry(registry.clone()).or_default() += 1;
        }
        self.reserved.insert(at.clone(), registries.clone());
    }

    /// Releases a slot. Returns whether there was one.
    pub(super) fn release(&mut self, at: &DeploymentNode) -> bool {
        let Some(registries) = self.reserved.remove(at) else {
            return false;
        };
        if let Some(on_node) = self.nodes.get_mut(&at.node) {
            on_node.remove(&at.key);
            if on_node.is_empty() {
                self.nodes.remove(&at.node);
            }
        }
        for registry in registries.iter() {
            release_one(&mut self.registries, registry);
        }
        true
    }

    /// Records whether a pull makes progress. Returns whether that has changed; false without a slot.
    pub(super) fn set_stalled(&mut self, at: &DeploymentNode, stalled: bool) -> bool {
        let on_node = self.nodes.get_mut(&at.node);
        let Some(progress) = on_node.and_then(|on_node| on_node.get_mut(&at.key)) else {
            return false;
        };
        let now = if stalled {
            PullProgress::Stalled
        } else {
            PullProgress::Going
        };
        std::mem::replace(progress, now) != now
    }

    /// Returns whether a pull has a slot.
    pub(super) fn has_slot(&self, at: &DeploymentNode) -> bool {
        self.reserved.contains_key(at)
    }

    /// Checks the counts against a recount.
    ///
    /// # Errors
    /// Says which count is wrong.
    pub(super) fn check_counts(&self) -> Result<(), String> {
        let mut recount = Self::new(self.limits);
        for (at, registries) in &self.reserved {
            recount.reserve(at, registries);
        }
        // Which of them are stalled, nothing else tells.
        for (node, on_node) in &mut recount.nodes {
            for (key, progress) in on_node {
                let known = self.nodes.get(node).and_then(|known| known.get(key));
                *progress = known.copied().unwrap_or(PullProgress::Going);
            }
        }
        if recount.nodes == self.nodes && recount.registries == self.registries {
            Ok(())
        } else {
            Err(format!(
                "slots are {self:?}, and are {recount:?} by a recount"
            ))
        }
    }

    /// Returns the Deployments that pull on a node.
    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &DeploymentKey> {
        self.nodes.get(node).into_iter().flat_map(BTreeMap::keys)
    }

    /// Returns the Deployments that pull on a node, and make progress.
    pub(super) fn making_progress(&self, node: &str) -> impl Iterator<Item = &DeploymentKey> {
        let on_node = self.nodes.get(node).into_iter().flatten();
        let going = on_node.filter(|(_, progress)| **progress == PullProgress::Going);
        going.map(|(key, _)| key)
    }

    /// Returns how many nodes pull.
    pub(super) fn nodes_pulling(&self) -> usize {
        self.nodes.len()
    }
}

fn release_one<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::DeploymentKey;

    fn at(name: &str, node: &str) -> DeploymentNode {
        let key = DeploymentKey {
            namespace: "shop".into(),
            name: name.into(),
        };
        let node = node.into();
        DeploymentNode { key, node }
    }

    fn registries(names: &[&str]) -> Arc<[Box<str>]> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn each_limit_holds_and_frees() {
        let mut budget = PullBudget::new(PullLimits {
            nodes: 2,
            per_registry: 2,
            per_node: 1,
            ..PullLimits::default()
        });
        let (a, b) = (registries(&["a"]), registries(&["b"]));
        budget.reserve(&at("web", "n1"), &a);
        budget.reserve(&at("web", "n1"), &a);
        assert_eq!(budget.check(&at("web", "n1"), &b), Some(LimitReached::Node));
        assert_eq!(budget.check(&at("web", "n2"), &a), None);
        budget.reserve(&at("web", "n2"), &a);
        assert_eq!(
            budget.check(&at("web", "n3"), &b),
            Some(LimitReached::Cluster)
        );
        assert!(budget.release(&at("web", "n2")) && !budget.release(&at("web", "n2")));
        assert_eq!(budget.check(&at("web", "n3"), &b), None);
        assert_eq!(budget.nodes_pulling(), 1);
    }

    #[test]
    fn a_registry_that_is_busy_holds_up_only_its_own_images() {
        let mut budget = PullBudget::new(PullLimits {
            per_registry: 1,
            ..PullLimits::default()
        });
        budget.reserve(&at("web", "n1"), &registries(&["a"]));
        assert_eq!(
            budget.check(&at("web", "n2"), &registries(&["b", "a"])),
            Some(LimitReached::Registry)
        );
        assert_eq!(budget.check(&at("web", "n2"), &registries(&["b"])), None);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut budget = PullBudget::new(PullLimits::default());
        for node in 0..1000 {
            let node = node.to_string();
            assert_eq!(budget.check(&at("web", &node), &registries(&["a"])), None);
            budget.reserve(&at("web", &node), &registries(&["a"]));
        }
        assert_eq!(budget.check(&at("web", "1"), &registries(&["a"])), None);
    }
}
