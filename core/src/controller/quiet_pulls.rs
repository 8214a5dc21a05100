//! The pulls that have made no progress for a while. A kubelet pulls one image after another, so those of other Deployments
//! wait behind them.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{DeploymentNode, NodeName};
use crate::workload::DeploymentKey;

/// The pulls without progress, by node.
#[derive(Debug, Default)]
pub(super) struct QuietPulls {
    by_node: BTreeMap<NodeName, BTreeSet<DeploymentKey>>,
    /// The nodes for which that has changed.
    changed: BTreeSet<NodeName>,
}

impl QuietPulls {
    /// Records that a pull makes no progress.
    pub(super) fn begin(&mut self, at: &DeploymentNode) {
        let on_node = self.by_node.entry(at.node.clone()).or_default();
        if on_node.insert(at.key.clone()) {
            self.changed.insert(at.node.clone());
        }
    }

    /// Records that a pull makes progress again, or has ended.
    pub(super) fn end(&mut self, at: &DeploymentNode) {
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

    /// Returns whether a pull of another namespace makes no progress on a node.
    pub(super) fn is_busy_for(&self, node: &str, namespace: &str) -> bool {
        let on_node = self.by_node.get(node);
        on_node.is_some_and(|keys| keys.iter().any(|key| key.namespace != namespace))
    }

    /// Returns the nodes with such pulls.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.by_node.keys()
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
