//! Marks of nodes that Deployments' pods have shown to be of no use for a while.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{DeploymentNode, NodeName};
use crate::workload::DeploymentKey;

/// The nodes that carry one kind of mark, and the Deployments whose pods have shown it.
#[derive(Debug, Default)]
pub(super) struct NodeMarks {
    by_node: BTreeMap<NodeName, BTreeSet<DeploymentKey>>,
    /// The nodes for which that has changed.
    changed: BTreeSet<NodeName>,
}

impl NodeMarks {
    /// Records that a Deployment's pod shows the mark.
    pub(super) fn add(&mut self, at: &DeploymentNode) {
        let on_node = self.by_node.entry(at.node.clone()).or_default();
        if on_node.insert(at.key.clone()) {
            self.changed.insert(at.node.clone());
        }
    }

    /// Records that no pod of a Deployment shows the mark any more.
    pub(super) fn remove(&mut self, at: &DeploymentNode) {
        let Some(on_node) = self.by_node.get_mut(&at.node) else {
            return;
        };
        if on_node.remove(&at.key) {
            self.changed.insert(at.node.clone());
        }
        if on_node.is_empty() {
            self.by_node.remove(&at.node);
        }
    }

    /// Returns the Deployments that show the mark of a node.
    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &DeploymentKey> {
        self.by_node.get(node).into_iter().flatten()
    }

    /// Returns the nodes that carry the mark.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.by_node.keys()
    }

    /// Forgets a node that is gone.
    pub(super) fn forget_node(&mut self, node: &str) {
        self.by_node.remove(node);
    }

    /// Returns the next node for which something has changed.
    pub(super) fn pop_changed(&mut self) -> Option<NodeName> {
        self.changed.pop_first()
    }

    /// Returns whether nothing has changed for any node.
    pub(super) fn is_unchanged(&self) -> bool {
        self.changed.is_empty()
    }
}
