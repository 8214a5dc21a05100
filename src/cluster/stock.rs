//! What is known of images on nodes before anything is done for them.

use super::verdict::{Standards, Verdict, judge};
use super::{Cluster, State};
use crate::domain::hold::Stock;
use crate::domain::plan::{Situation, plan};
use crate::domain::pod::PodSettings;
use crate::domain::workload::Workload;

impl Cluster {
    /// Whether a Deployment's images are on every node that a prefetch would choose: by its prefetch pods, and by what
    /// the nodes say.
    pub fn stock(&self, workload: &Workload, settings: &PodSettings) -> Stock {
        // Which nodes are chosen out of many depends on where the Deployment runs, which is not watched.
        if !self.is_synced() || workload.annotations.max_nodes.is_some() {
            return Stock::Unknown;
        }
        let state = self.lock();
        let nodes = state.nodes.current.values();
        let candidates = nodes.map(|machine| machine.candidate.as_ref());
        let targets = plan(workload, candidates, &Situation::default(), settings).targets;
        if targets.is_empty() {
            Stock::NoNode
        } else if targets.iter().all(|(node, _)| state.has(workload, node)) {
            Stock::Everywhere
        } else {
            Stock::Unknown
        }
    }
}

impl State {
    fn has(&self, workload: &Workload, node: &str) -> bool {
        let Some(machine) = self.nodes.current.get(node) else {
            return false;
        };
        let standards = Standards {
            node_since: machine.created,
            ..Standards::default()
        };
        machine.has_all(workload)
            || judge(workload, &self.pods.at(&workload.key, node), standards) == Verdict::Warm
    }
}
