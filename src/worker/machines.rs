//! What nodes that join, leave or change do to the work.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::info;

use super::desk::Desk;
use super::spots::Stage;
use super::work::{Begin, Work};
use crate::cluster::{Machine, Place};
use headstart_core::plan::{PlacementContext, plan};
use headstart_core::pod::{PodSettings, account_of};
use headstart_core::scheduling::node::PullMethod;
use headstart_core::workload::{DeploymentKey, Workload};

impl Desk {
    /// As a new leader: nodes that joined long ago were warmed, or were not to be. Those that joined within the
    /// retention still have their pods, so that looking at them again costs nothing.
    pub(super) fn meet_nodes(&mut self) {
        let now = Timestamp::now();
        for machine in self.worker.cluster.nodes() {
            let name: Arc<str> = machine.candidate.name.as_str().into();
            let age = machine.created.map(|created| now.duration_since(created));
            if age.is_none_or(|age| age >= self.worker.policy.retain) {
                self.known_nodes.insert(name, machine.uid);
            } else {
                self.on_machine(&name);
            }
        }
    }

    /// A node came, went, or changed.
    pub(super) fn on_machine(&mut self, node: &Arc<str>) {
        let Some(machine) = self.worker.cluster.node(node) else {
            self.known_nodes.remove(node);
            self.forget_node(node);
            self.parked.remove(node);
            return;
        };
        let keys: Vec<DeploymentKey> = self.works.keys().cloned().collect();
        for key in keys {
            self.offer(&key, node, &machine);
        }
        // When it is Ready for the first time, and while it is young, because taints of those who set it up come off
        // one by one. For each Deployment once: one that flaps is not warmed again.
        let known = self.known_nodes.get(node) == Some(&machine.uid);
        let age = |created| Timestamp::now().duration_since(created);
        let young = machine
            .created
            .is_some_and(|created| age(created) < self.worker.policy.retain);
        if (!known || young) && machine.candidate.is_usable() {
            self.known_nodes.insert(node.clone(), machine.uid.clone());
            self.welcome(node, &machine);
        }
    }

    fn forget_node(&mut self, node: &Arc<str>) {
        let mut places = Vec::new();
        for (key, work) in &mut self.works {
            if work.spots.remove(node) {
                places.push(Place {
                    key: key.clone(),
                    node: node.clone(),
                });
            }
        }
        for place in places {
            self.free(&place);
            self.conclude(&place.key);
        }
    }

    /// Adds a node to a prefetch that is for all nodes, if it is eligible and not in it.
    fn offer(&mut self, key: &DeploymentKey, node: &Arc<str>, machine: &Machine) {
        let Some(work) = self.works.get_mut(key) else {
            return;
        };
        if let Some(spot) = work.spots.get(node) {
            if spot.uid == machine.uid {
                return;
            }
            // A namesake of a node that went: nothing is on it.
            work.spots.remove(node);
            self.ledger.release(&Place {
                key: key.clone(),
                node: node.clone(),
            });
        }
        if !work.whole {
            return;
        }
        let targets = if work.workload.annotations.max_nodes.is_some() {
            // Which nodes are chosen depends on all.
            let nodes = self.worker.cluster.nodes();
            let candidates = nodes.iter().map(|machine| machine.candidate.as_ref());
            let settings = &self.worker.settings;
            let plan = plan(&work.workload, candidates, &work.situation, settings);
            if work.spots.len() >= plan.nodes.len() {
                return;
            }
            plan.nodes
        } else {
            targets_of(&work.workload, machine, &self.worker.settings)
        };
        if targets.iter().any(|(target, _)| **target == **node) {
            self.add(key, node, machine);
        }
    }

    fn add(&mut self, key: &DeploymentKey, node: &Arc<str>, machine: &Machine) {
        let Some(work) = self.works.get_mut(key) else {
            return;
        };
        if machine.has_all(&work.workload) {
            return;
        }
        let all = work.spots.len() + 1;
        work.add(node, machine, all);
        self.look(&Place {
            key: key.clone(),
            node: node.clone(),
        });
        self.turns.add(key);
    }

    /// Warms a node that joined for Deployments that were rolled out before, those with most replicas first.
    fn welcome(&mut self, node: &Arc<str>, machine: &Machine) {
        let most = self.worker.policy.new_node_deployments;
        if most == 0 {
            return;
        }
        let mut wanted: Vec<Arc<Workload>> = self
            .worker
            .cluster
            .all_opted_in()
            .into_iter()
            .filter(|workload| {
                let other = self.works.get(&workload.key);
                // A limit on nodes is a wish for few; and what rolls out now has taken the node in already.
                workload.annotations.max_nodes.is_none()
                    && workload.replicas > 0
                    && other.is_none_or(|work| !work.whole && !work.spots.contains(node))
                    && !targets_of(workload, machine, &self.worker.settings).is_empty()
            })
            .collect();
        wanted.sort_by(|a, b| (b.replicas, &a.key).cmp(&(a.replicas, &b.key)));
        wanted.truncate(most);
        if wanted.is_empty() {
            return;
        }
        info!(%node, deployments = wanted.len(), "warming a node that joined");
        for workload in wanted {
            let key = workload.key.clone();
            let for_it = self.works.get(&key).is_some_and(|w| w.is_for(&workload));
            if !for_it {
                self.drop_work(&key);
                let work = Work::new(Begin {
                    id: self.number(),
                    workload,
                    started: Instant::now(),
                    whole: false,
                    situation: PlacementContext::default(),
                    cancel: self.writes.child_token(),
                });
                self.works.insert(key.clone(), work);
                self.read_account(&key);
            }
            self.add(&key, node, machine);
        }
    }

    /// How or where the same images are wanted has changed: other credentials, another node selector. What failed may
    /// succeed now, and other nodes may be eligible.
    pub(super) fn revise(&mut self, workload: Arc<Workload>) {
        let key = workload.key.clone();
        let Some(work) = self.works.get_mut(&key) else {
            return;
        };
        info!(deployment = %key, "the same images are wanted in another way");
        let failed = work
            .spots
            .names_where(|_, spot| spot.stage().is_decided() && spot.stage() != Stage::Warm);
        let account = |of: &Workload| account_of(of, &self.worker.settings).map(str::to_owned);
        if account(&work.workload) != account(&workload) {
            work.account.secrets = None;
        }
        work.revise(workload.clone(), Timestamp::now());
        for node in failed {
            if let Some(spot) = work.spots.get_mut(&node) {
                spot.attempts = 0;
            }
            work.spots.line_up(&node);
        }
        if work.whole {
            self.replan(&key);
        }
        self.read_account(&key);
        self.turns.add(&key);
    }

    fn replan(&mut self, key: &DeploymentKey) {
        let Some(work) = self.works.get_mut(key) else {
            return;
        };
        let machines = self.worker.cluster.nodes();
        let candidates = machines.iter().map(|machine| machine.candidate.as_ref());
        let plan = plan(
            &work.workload,
            candidates,
            &work.situation,
            &self.worker.settings,
        );
        let machines: HashMap<&str, &Machine> = machines
            .iter()
            .map(|machine| (machine.candidate.name.as_str(), machine))
            .collect();
        let wanted: HashSet<&str> = plan.nodes.iter().map(|(node, _)| node.as_str()).collect();
        // What is under way runs on.
        let unwanted = work.spots.names_where(|node, spot| {
            !wanted.contains(node) && matches!(spot.stage(), Stage::Waiting | Stage::BackOff)
        });
        for node in unwanted {
            work.spots.remove(&node);
        }
        let missing: Vec<(Arc<str>, &Machine)> = plan
            .nodes
            .iter()
            .filter(|(node, _)| !work.spots.contains(node.as_str()))
            .filter_map(|(node, _)| Some((node.as_str().into(), *machines.get(node.as_str())?)))
            .collect();
        for (node, machine) in missing {
            self.add(key, &node, machine);
        }
    }
}

/// The node, if pods of the Deployment could land there.
fn targets_of(
    workload: &Workload,
    machine: &Machine,
    settings: &PodSettings,
) -> Vec<(String, PullMethod)> {
    let candidate = machine.candidate.as_ref();
    plan(
        workload,
        [candidate],
        &PlacementContext::default(),
        settings,
    )
    .nodes
}
