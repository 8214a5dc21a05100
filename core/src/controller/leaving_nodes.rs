//! Deletes the pods on nodes that are about to go.

use super::expiry::is_leaving;
use super::gc::Gc;
use super::pulls::Pulls;
use super::turn::Turn;
use crate::store::{DeploymentNode, NodeName};
use crate::workload::DeploymentKey;

/// Deletes the unfinished pods of all Deployments on a node if it is about to go: they would stand in the way of its drain.
pub(super) fn delete_pods(gc: &mut Gc, pulls: &Pulls, name: &NodeName, turn: &mut Turn<'_>) {
    if !is_leaving(name, turn) {
        return;
    }
    let keys: Vec<DeploymentKey> = turn.store.deployments_with_pods().cloned().collect();
    for key in keys {
        let node = name.clone();
        gc.collect_node(pulls, &DeploymentNode { key, node }, turn);
    }
}
