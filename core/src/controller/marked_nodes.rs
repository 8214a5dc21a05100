//! Tells prefetches for which nodes a hold does not wait because of what pods of other Deployments have shown there.

use std::collections::BTreeSet;

use super::absence::Absence;
use super::kubelets::set_absence;
use super::pulls::Pulls;
use super::turn::Turn;
use crate::store::{DeploymentNode, NodeName};
use crate::workload::DeploymentKey;

/// Tells all prefetches about the nodes whose marks have changed.
pub(super) fn spread(pulls: &mut Pulls, turn: &mut Turn<'_>) {
    while let Some(node) = pulls.pop_marked() {
        let keys: Vec<DeploymentKey> = pulls.prefetches.keys().cloned().collect();
        for key in keys {
            let node = node.clone();
            sync_node(pulls, &DeploymentNode { key, node }, turn);
        }
    }
}

/// Tells a new prefetch about all nodes with marks.
pub(super) fn sync_prefetch(pulls: &mut Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    let marked = pulls.silent.nodes().chain(pulls.quiet.nodes());
    let marked: BTreeSet<NodeName> = marked.cloned().collect();
    for node in marked {
        let key = key.clone();
        sync_node(pulls, &DeploymentNode { key, node }, turn);
    }
}

/// Tells a prefetch about one of its nodes. A kubelet that is silent for one Deployment is so for all. A pull that makes no progress
/// keeps up the other namespaces.
pub(super) fn sync_node(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
    let DeploymentNode { key, node } = at;
    let silent = pulls.silent.on_node(node).next().is_some();
    let elsewhere = |other: &DeploymentKey| other.namespace != key.namespace;
    let busy = pulls.quiet.on_node(node).any(elsewhere);
    if busy
        && let Some(prefetch) = pulls.prefetches.get_mut(key)
        && prefetch.nodes.contains(node)
    {
        let note = || format!("Node {node} pulls an image for another namespace");
        prefetch.reports.last_error.get_or_insert_with(note);
    }
    let change = |absence: &mut Absence| {
        absence.silent = silent;
        absence.busy = busy;
    };
    set_absence(pulls, at, change, turn);
}
