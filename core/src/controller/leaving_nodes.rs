//! Deletes the pods on nodes that are about to go or short of disk.

use super::expiry::is_cleared;
use super::gc::Gc;
use super::pulls::Pulls;
use super::turn::Turn;
use crate::store::{DeploymentNode, NodeName};
use crate::workload::DeploymentKey;

/// Deletes the pods of all Deployments on a node that are in the way there: of its drain, or of the kubelet that frees disk.
pub(super) fn delete_pods(gc: &mut Gc, pulls: &Pulls, name: &NodeName, turn: &mut Turn<'_>) {
    if !is_cleared(name, turn) {
        return;
    }
    let keys: Vec<DeploymentKey> = turn.store.deployments_with_pods().cloned().collect();
    for key in keys {
        let node = name.clone();
        gc.collect_node(pulls, &DeploymentNode { key, node }, turn);
    }
}
