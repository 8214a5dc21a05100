//! Applies changes of nodes to the prefetches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::after_ready::awaits_ready;
use super::image_sizes::known_sizes;
use super::log::LogLine;
use super::planning::{add_node, consider_node, is_eligible};
use super::prefetch::Prefetch;
use super::pull::on_node_finished;
use super::pulls::Pulls;
use super::refresh;
use super::turn::Turn;
use crate::store::{DeploymentNode, NodeName, NodeRecord};
use crate::workload::{DeploymentKey, Workload};

/// The nodes that were seen, by name.
#[derive(Debug, Default)]
pub(super) struct SeenNodes(BTreeMap<NodeName, SeenNode>);

/// A node that has got its images, or was not to.
#[derive(Debug)]
struct SeenNode {
    uid: Arc<str>,
    /// The most extended resources and the like that it was seen with.
    scalars: usize,
}

impl SeenNode {
    fn new(record: &NodeRecord) -> Self {
        Self {
            uid: record.uid.clone(),
            scalars: record.info.scalar_count(),
        }
    }
}

impl SeenNodes {
    /// Records the nodes that joined before this term: they have got their images, or were not to. Returns the nodes that
    /// joined within the retention. They still have their pods, so looking at them again costs nothing.
    pub(super) fn init_seen_nodes(&mut self, turn: &Turn<'_>) -> Vec<NodeName> {
        let mut young = Vec::new();
        for record in turn.store.nodes() {
            let name: NodeName = record.name().into();
            if is_young(record, turn) {
                young.push(name);
            } else {
                self.0.insert(name, SeenNode::new(record));
            }
        }
        young
    }

    /// Applies a change of a node.
    pub(super) fn sync_node(&mut self, pulls: &mut Pulls, name: &NodeName, turn: &mut Turn<'_>) {
        let Some(record) = turn.store.node(name).cloned() else {
            self.0.remove(name);
            remove_node(pulls, name, turn);
            return;
        };
        let keys: Vec<DeploymentKey> = pulls.prefetches.keys().cloned().collect();
        for key in keys {
            let node = name.clone();
            consider_node(pulls, &DeploymentNode { key, node }, &record, turn);
        }
        // The node is looked at when it is ready for the first time, and while it is young. The components that set it
        // up remove their taints one by one. Each Deployment gets it once: a node that flaps gets its images once.
        let seen = self.0.get(name).filter(|seen| seen.uid == record.uid);
        let scalars = seen.map_or(0, |seen| seen.scalars);
        let joins = seen.is_none() || is_young(&record, turn);
        // A device plugin may start long after its node joined.
        let gains = record.info.scalar_count() > scalars;
        if (joins || gains)
            && record
                .info
                .is_usable(&turn.config.pods.filter.startup_taints)
        {
            let mut seen = SeenNode::new(&record);
            seen.scalars = seen.scalars.max(scalars);
            self.0.insert(name.clone(), seen);
            prefetch_on_new_node(pulls, name, (&record, joins), turn);
        }
    }
}

/// Returns whether a node joined within the retention.
fn is_young(record: &NodeRecord, turn: &Turn<'_>) -> bool {
    let age = record
        .created
        .map(|created| turn.now.wall.duration_since(created));
    age.is_some_and(|age| age < turn.config.retain)
}

/// Removes a node that is gone from all prefetches.
fn remove_node(pulls: &mut Pulls, name: &NodeName, turn: &mut Turn<'_>) {
    let mut removed = Vec::new();
    for (key, prefetch) in &mut pulls.prefetches {
        if prefetch.already_present.remove(name).is_some() {
            turn.mark_changed(key);
        }
        if prefetch.nodes.remove(name) {
            removed.push(DeploymentNode {
                key: key.clone(),
                node: name.clone(),
            });
        }
    }
    for at in removed {
        pulls.release_slot_without_create(&at);
        on_node_finished(pulls, &at.key, turn);
    }
    pulls.forget_node(name);
}

/// Pulls images to a node that joined, for Deployments that were rolled out before: those with most replicas first. On a node
/// that only gained a resource, only for Deployments that want such resources.
fn prefetch_on_new_node(
    pulls: &mut Pulls,
    name: &NodeName,
    (record, joins): (&NodeRecord, bool),
    turn: &mut Turn<'_>,
) {
    let most = turn.config.new_node_deployments;
    if most == 0 || record.info.is_scale_down_candidate {
        return;
    }
    let wants_node = |workload: &&Arc<Workload>| {
        let prefetch = pulls.prefetches.get(&workload.key);
        // A limit on nodes asks for few nodes; and a prefetch for all nodes has considered this one.
        workload.annotations.max_nodes.is_none()
            && workload.state.replicas > 0
            && !awaits_ready(turn.store, &workload.key)
            && (joins || workload.constraints.requests.scalar_count() > 0)
            && prefetch.is_none_or(|p| !p.covers_all_nodes && !p.nodes.contains(name))
            && !pulls.starts.is_waiting(&workload.key)
            && is_eligible(workload, record, &turn.config.pods)
    };
    let mut wanted: Vec<Arc<Workload>> = turn
        .store
        .all_enabled()
        .filter(wants_node)
        .cloned()
        .collect();
    wanted.sort_by(|a, b| (b.state.replicas, &a.key).cmp(&(a.state.replicas, &b.key)));
    wanted.truncate(most);
    if wanted.is_empty() {
        return;
    }
    turn.out.logs.push(LogLine::NodeJoined {
        node: name.clone(),
        deployments: wanted.len(),
    });
    for workload in wanted {
        let key = workload.key.clone();
        let current = pulls.prefetches.get(&key);
        if !current.is_some_and(|prefetch| prefetch.has_same_images(&workload)) {
            pulls.cancel_prefetch(&key);
            let now = turn.now.monotonic;
            let mut prefetch = Prefetch::new(turn.ids.next(), workload, now);
            prefetch.covers_all_nodes = false;
            prefetch.placement_context.sizes = known_sizes(&prefetch.workload, turn);
            prefetch.pull_secrets.want();
            refresh::schedule(&prefetch, turn);
            pulls.insert_prefetch(prefetch);
            turn.mark_changed(&key);
        }
        let node = name.clone();
        add_node(pulls, &DeploymentNode { key, node }, record, turn);
    }
}
