//! The nodes of a prefetch: the plan, and later changes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::kubelets::{observe_node, observe_pods};
use super::marked_nodes;
use super::messages;
use super::pull::{on_node_finished, sync_node};
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::turn::Turn;
use crate::event::EventReason;
use crate::plan::{PlacementContext, plan};
use crate::pod::PodSettings;
use crate::scheduling::node::PullMethod;
use crate::store::{DeploymentNode, NodeName, NodeRecord};
use crate::workload::{DeploymentKey, Workload};

/// The class of the event about a pull that DiskPressure ended.
const DISK_PRESSURE: &str = "DiskPressure";

/// Adds a node to a prefetch, unless it reports the images.
pub(super) fn add_node(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    record: &NodeRecord,
    turn: &mut Turn<'_>,
) {
    let Some(prefetch) = pulls.prefetches.get_mut(&at.key) else {
        return;
    };
    let planned = prefetch.nodes.len() + 1;
    prefetch.add_node(&at.node, record, planned);
    sync_node(pulls, at, turn);
    observe_pods(pulls, at, turn);
    marked_nodes::sync_node(pulls, at, turn);
    pulls.queue.push(&at.key);
}

/// Adds a node that joined or changed to a prefetch for all nodes, if it is eligible and not there yet.
pub(super) fn consider_node(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    record: &NodeRecord,
    turn: &mut Turn<'_>,
) {
    let Some(prefetch) = pulls.prefetches.get_mut(&at.key) else {
        return;
    };
    match prefetch.already_present.get(&at.node) {
        Some(uid) if *uid == record.uid => return,
        Some(_) => {
            prefetch.already_present.remove(&at.node);
            turn.mark_changed(&at.key);
        }
        None => {}
    }
    let replaced = match prefetch.nodes.get(&at.node) {
        Some(pull) if pull.uid == record.uid => {
            let is_waited_for = pull.state() != PullState::Present;
            if is_waited_for && record.info.is_leaving() {
                remove_cleared_node(pulls, at, turn);
            } else if is_waited_for && record.info.has_disk_pressure() {
                end_by_disk_pressure(pulls, at, turn);
            } else {
                observe_node(pulls, at, record, turn);
            }
            return;
        }
        Some(_) => {
            // Another node by the same name: nothing is on it.
            prefetch.nodes.remove(&at.node);
            pulls.release_slot_without_create(at);
            true
        }
        None => false,
    };
    if is_planned(pulls, at, record, turn) {
        add_node(pulls, at, record, turn);
    }
    // The others go on as when a node is gone.
    if replaced {
        on_node_finished(pulls, &at.key, turn);
    }
}

/// Removes a node that is short of disk, and does not have its images. When it has room again, it is added again: once if a pull had
/// begun, which may have been too much for its disk.
fn end_by_disk_pressure(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
    if let Some(prefetch) = pulls.prefetches.get_mut(&at.key)
        && prefetch.nodes.record_disk_pressure(&at.node)
        && prefetch.reports.take_node_fault(DISK_PRESSURE)
    {
        let note = messages::disk_pressure(&at.node);
        prefetch.reports.last_error = Some(note.clone());
        let failed = EventReason::PrefetchFailed;
        turn.out
            .event(&prefetch.workload, failed, DISK_PRESSURE, note);
    }
    remove_cleared_node(pulls, at, turn);
}

/// Removes a node that its pods are deleted from, and that does not have its images. If it stays after all, it is added again.
fn remove_cleared_node(pulls: &mut Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
    if let Some(prefetch) = pulls.prefetches.get_mut(&at.key) {
        prefetch.nodes.remove(&at.node);
        pulls.release_slot_without_create(at);
        on_node_finished(pulls, &at.key, turn);
    }
}

/// Returns whether a node that is not in a prefetch for all nodes belongs there.
fn is_planned(pulls: &Pulls, at: &DeploymentNode, record: &NodeRecord, turn: &Turn<'_>) -> bool {
    let prefetch = pulls.prefetches.get(&at.key);
    let Some(prefetch) = prefetch.filter(|prefetch| prefetch.covers_all_nodes) else {
        return false;
    };
    if prefetch.nodes.is_too_small(&at.node) {
        return false;
    }
    if prefetch.workload.annotations.max_nodes.is_none() {
        let context = &prefetch.placement_context;
        return pull_method(&prefetch.workload, record, context, &turn.config.pods).is_some();
    }
    // Which nodes are chosen depends on all nodes.
    let nodes = turn.store.nodes().map(|record| record.info.as_ref());
    let context = &prefetch.placement_context;
    let targets = plan(&prefetch.workload, nodes, context, &turn.config.pods).nodes;
    let planned = prefetch.nodes.len() + prefetch.already_present.len();
    planned < targets.len() && targets.iter().any(|(name, _)| **name == *at.node)
}

/// Plans the nodes of a prefetch again. Pulls that are in progress go on.
pub(super) fn replan(pulls: &mut Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    let nodes = turn.store.nodes().map(|record| record.info.as_ref());
    let context = &prefetch.placement_context;
    let targets = plan(&prefetch.workload, nodes, context, &turn.config.pods).nodes;
    let wanted: BTreeSet<&str> = targets.iter().map(|(node, _)| node.as_str()).collect();
    let unwanted = prefetch.nodes.nodes_matching(|node, pull| {
        let idle = matches!(pull.state(), PullState::Pending | PullState::Backoff);
        idle && !wanted.contains(node)
    });
    let removed = !unwanted.is_empty();
    prefetch
        .already_present
        .retain(|node, _| wanted.contains(&**node));
    for node in unwanted {
        prefetch.nodes.remove(&node);
    }
    let missing: Vec<(NodeName, Arc<NodeRecord>)> = wanted
        .into_iter()
        .filter(|node| !prefetch.nodes.contains(node) && !prefetch.nodes.is_too_small(node))
        .filter_map(|node| Some((node.into(), turn.store.node(node)?.clone())))
        .collect();
    for (node, record) in missing {
        let key = key.clone();
        add_node(pulls, &DeploymentNode { key, node }, &record, turn);
    }
    // The nodes that are left may all be decided.
    if removed {
        on_node_finished(pulls, key, turn);
    }
}

/// Removes the nodes that no pod is created for any more. Pulls that are in progress go on.
pub(super) fn remove_ineligible(pulls: &mut Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
    let Some(prefetch) = pulls.prefetches.get(key) else {
        return;
    };
    let idle = prefetch
        .nodes
        .nodes_matching(|_, pull| matches!(pull.state(), PullState::Pending | PullState::Backoff));
    let mut removed = false;
    for node in idle {
        let key = key.clone();
        let at = DeploymentNode { key, node };
        if current_method(pulls, &at, turn).is_some() {
            continue;
        }
        if let Some(prefetch) = pulls.prefetches.get_mut(&at.key) {
            removed |= prefetch.nodes.remove(&at.node);
            pulls.release_slot_without_create(&at);
        }
    }
    // The nodes that are left may all be decided.
    if removed {
        on_node_finished(pulls, key, turn);
    }
}

/// Returns whether pods of the Deployment could land on the node.
pub(super) fn is_eligible(
    workload: &Workload,
    record: &NodeRecord,
    settings: &PodSettings,
) -> bool {
    pull_method(workload, record, &PlacementContext::default(), settings).is_some()
}

/// Returns how images are pulled on a node as it is now; `None` if it is not eligible. The plan is as old as its queue is
/// long.
pub(super) fn current_method(
    pulls: &Pulls,
    at: &DeploymentNode,
    turn: &Turn<'_>,
) -> Option<PullMethod> {
    let prefetch = pulls.prefetches.get(&at.key)?;
    let record = turn.store.node(&at.node)?;
    if record.uid != prefetch.nodes.get(&at.node)?.uid {
        return None;
    }
    let context = &prefetch.placement_context;
    pull_method(&prefetch.workload, record, context, &turn.config.pods)
}

/// Plans a Deployment on one node.
fn pull_method(
    workload: &Workload,
    record: &NodeRecord,
    context: &PlacementContext,
    settings: &PodSettings,
) -> Option<PullMethod> {
    let node = [record.info.as_ref()];
    let plan = plan(workload, node, context, settings);
    plan.nodes.into_iter().next().map(|(_, method)| method)
}
