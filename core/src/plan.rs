//! Plans the nodes of a prefetch, and says why the others are skipped.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::annotations::Amount;
use crate::hash::short_hash;
use crate::pod::PodSettings;
use crate::scheduling::filter_options::FilterOptions;
use crate::scheduling::image_sizes::ImageSizes;
use crate::scheduling::node::{NodeInfo, PullMethod};
use crate::scheduling::pod_slots::{PodRoom, PodSlots};
use crate::scheduling::skip_reason::SkipReason;
use crate::workload::{DeploymentKey, Workload};

#[cfg(test)]
mod tests;

/// Facts about the cluster beside its nodes. Without them no node is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementContext {
    /// Nodes where pods of the Deployment are now; read only where the number of nodes is limited.
    pub running_on: BTreeSet<String>,
    /// The number of pods on each node.
    pub pods_on: BTreeMap<String, u32>,
    /// The sizes of the Deployment's images.
    pub sizes: ImageSizes,
}

/// The plan for one Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Nodes to prefetch on, in the order of their names, each with the way its images are pulled.
    pub nodes: Vec<(String, PullMethod)>,
    /// Nodes left out, in the order of their names, and why.
    pub skipped: Vec<(&'a str, SkipReason<'a>)>,
}

/// Plans a Deployment's prefetch. The order of the nodes does not matter.
pub fn plan<'a>(
    workload: &'a Workload,
    nodes: impl IntoIterator<Item = &'a NodeInfo>,
    context: &'a PlacementContext,
    settings: &PodSettings,
) -> Plan<'a> {
    let mut plan = Plan::default();
    if workload.images.is_empty() {
        return plan;
    }
    let blocking = workload.annotations.first_blocking();
    let is_held = workload.state.held.is_some_and(|held| held.paused);
    let options = if is_held {
        &settings.filter.for_hold()
    } else {
        &settings.filter
    };
    let mut eligible = Vec::new();
    for node in nodes {
        let excluded = match blocking {
            Some(invalid) => Some(SkipReason::InvalidAnnotation(invalid)),
            None => filter(workload, node, context, options),
        };
        match excluded {
            Some(ineligible) => plan.skipped.push((&node.name, ineligible)),
            None => eligible.push(node),
        }
    }
    let (chosen, beyond) = match workload.annotations.max_nodes {
        Some(max) => select_max_nodes(eligible, max, &workload.key, &context.running_on),
        None => (eligible, Vec::new()),
    };
    plan.nodes = chosen
        .into_iter()
        .map(|node| {
            let method = settings.method.unwrap_or_else(|| node.preferred_method());
            (node.name.clone(), method)
        })
        .collect();
    if let Some(max) = workload.annotations.max_nodes {
        let beyond = beyond.into_iter();
        plan.skipped
            .extend(beyond.map(|node| (node.name.as_str(), SkipReason::BeyondMaxNodes(max))));
    }
    plan.nodes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    plan.skipped.sort_unstable_by_key(|(node, _)| *node);
    plan
}

fn filter<'a>(
    workload: &'a Workload,
    node: &'a NodeInfo,
    context: &'a PlacementContext,
    options: &FilterOptions,
) -> Option<SkipReason<'a>> {
    let constraints = &workload.constraints;
    if let Some(excluded) = constraints.filter_with(node, options) {
        return Some(excluded);
    }
    // Pods that tolerate a cordon may still land there. A prefetch pod would stand in the way of the drain.
    if node.is_leaving() {
        return Some(SkipReason::Cordoned);
    }
    let selector = workload.annotations.node_selector.as_ref();
    if let Some(unmet) = selector.and_then(|selector| selector.first_unmatched(&node.labels)) {
        return Some(SkipReason::NotSelected(unmet));
    }
    if let Some(all) = node.pod_slots {
        let taken = context.pods_on.get(&node.name).copied().unwrap_or(0);
        let slots = PodSlots { all, taken };
        if slots.room() == PodRoom::None {
            return Some(SkipReason::NoPodSlots(slots));
        }
    }
    context.sizes.filter(node).map(SkipReason::NoRoom)
}

/// The turn of a node where the number of nodes is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It runs the Deployment now.
    Running,
    /// It does not.
    Idle,
    /// An autoscaler may remove it.
    MayGo,
}

/// Chooses so many of the eligible nodes: those that run the Deployment now first, then others, and last those that an
/// autoscaler may remove. Of each kind it takes as many from each zone as there are to have. Returns the chosen and the others.
fn select_max_nodes<'a>(
    eligible: Vec<&'a NodeInfo>,
    max: Amount,
    key: &DeploymentKey,
    running_on: &BTreeSet<String>,
) -> (Vec<&'a NodeInfo>, Vec<&'a NodeInfo>) {
    let room = max.of(eligible.len());
    if eligible.len() <= room {
        return (eligible, Vec::new());
    }
    // Within a zone by a hash of Deployment and node: Deployments would otherwise all choose the same nodes, and a node
    // that comes or goes would move the choice of all others.
    let key = key.to_string();
    let mut ranked: Vec<(Rank, String, &NodeInfo)> = eligible
        .into_iter()
        .map(|node| {
            let rank = match (
                node.is_scale_down_candidate,
                running_on.contains(&node.name),
            ) {
                (true, _) => Rank::MayGo,
                (false, true) => Rank::Running,
                (false, false) => Rank::Idle,
            };
            (rank, short_hash([key.as_str(), &node.name]), node)
        })
        .collect();
    ranked.sort_unstable_by(|(rank, hash, node), (other_rank, other_hash, other)| {
        (rank, hash, &node.name).cmp(&(other_rank, other_hash, &other.name))
    });
    // A node's turn is how many of its zone come before it. Nodes of one turn are one round over the zones.
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    let mut in_turn: Vec<(Rank, usize, &str, &NodeInfo)> = ranked
        .into_iter()
        .map(|(rank, _, node)| {
            let next = turns.entry(node.zone()).or_default();
            let turn = *next;
            *next += 1;
            (rank, turn, node.zone(), node)
        })
        .collect();
    in_turn.sort_by(
        |(rank, turn, zone, _), (other_rank, other_turn, other_zone, _)| {
            (rank, turn, zone).cmp(&(other_rank, other_turn, other_zone))
        },
    );
    let mut chosen: Vec<&NodeInfo> = in_turn.into_iter().map(|(.., node)| node).collect();
    let beyond = chosen.split_off(room);
    (chosen, beyond)
}
