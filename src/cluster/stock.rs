//! What is known of images on nodes before anything is done for them.

use super::verdict::{Standards, Verdict, judge};
use super::{Cluster, Machine};
use headstart_core::hold::ImagePresence;
use headstart_core::plan::{PlacementContext, plan};
use headstart_core::pod::PodSettings;
use headstart_core::workload::Workload;

/// Most nodes that a review looks at: a caller who forges reviews decides how often this runs.
const MAX_NODES: usize = 1000;

impl Cluster {
    /// Whether a Deployment's images are on every node that a prefetch would choose: by its prefetch pods, and by what
    /// the nodes say. In a cluster of more than [`MAX_NODES`] nodes this is not looked up.
    pub fn stock(&self, workload: &Workload, settings: &PodSettings) -> ImagePresence {
        // Which nodes are chosen out of many depends on where the Deployment runs, which is not watched.
        if !self.is_synced() || workload.annotations.max_nodes.is_some() {
            return ImagePresence::Unknown;
        }
        let Some(nodes) = self.nodes_up_to(MAX_NODES) else {
            return ImagePresence::Unknown;
        };
        // The caches stay free meanwhile: the watches and the worker need them.
        let candidates = nodes.values().map(|machine| machine.candidate.as_ref());
        let targets = plan(workload, candidates, &PlacementContext::default(), settings).nodes;
        if targets.is_empty() {
            return ImagePresence::NoEligibleNode;
        }
        let mut targets = targets.iter().filter_map(|(node, _)| nodes.get(&**node));
        if targets.all(|machine| self.has(workload, machine)) {
            ImagePresence::OnAllNodes
        } else {
            ImagePresence::Unknown
        }
    }

    fn has(&self, workload: &Workload, machine: &Machine) -> bool {
        let standards = Standards {
            node_since: machine.created,
            ..Standards::default()
        };
        machine.has_all(workload) || {
            let pods = self.pods_at(&workload.key, &machine.candidate.name);
            judge(workload, &pods, standards) == Verdict::Warm
        }
    }
}
