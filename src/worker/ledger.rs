//! Who pulls now, and whether one more may.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cluster::Place;

/// How much may be pulled at once. Zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Nodes that pull.
    pub nodes: usize,
    /// Nodes that pull from one registry.
    pub per_registry: usize,
    /// Prefetch pods on one node that are not done.
    pub per_node: usize,
}

/// What stands in the way of one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The cluster.
    Cluster,
    /// One of the registries.
    Registry,
    /// The node.
    Node,
}

/// Pulls under way.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    held: HashMap<Place, Arc<[Box<str>]>>,
    nodes: HashMap<Arc<str>, usize>,
    registries: HashMap<Box<str>, usize>,
}

impl Ledger {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            held: HashMap::new(),
            nodes: HashMap::new(),
            registries: HashMap::new(),
        }
    }

    /// Whether another node may begin to pull.
    pub(super) fn has_room(&self) -> bool {
        self.limits.nodes == 0 || self.nodes.len() < self.limits.nodes
    }

    /// What stands in the way of a pull on this node from these registries.
    pub(super) fn refuses(&self, node: &str, registries: &[Box<str>]) -> Option<Full> {
        let reached =
            |limit: usize, now: Option<&usize>| limit > 0 && now.copied().unwrap_or(0) >= limit;
        if reached(self.limits.per_node, self.nodes.get(node)) {
            return Some(Full::Node);
        }
        if !self.nodes.contains_key(node) && !self.has_room() {
            return Some(Full::Cluster);
        }
        registries
            .iter()
            .any(|registry| reached(self.limits.per_registry, self.registries.get(registry)))
            .then_some(Full::Registry)
    }

    /// Notes a pull. One that is noted already stays as it is: what is there is there, whatever the limits say.
    pub(super) fn hold(&mut self, place: &Place, registries: &Arc<[Box<str>]>) {
        if self.held.contains_key(place) {
            return;
        }
        *self.nodes.entry(place.node.clone()).or_default() += 1;
        for registry in registries.iter() {
            *self.registries.entry(registry.clone()).or_default() += 1;
        }
        self.held.insert(place.clone(), registries.clone());
    }

    /// A pull is over; whether it was noted.
    pub(super) fn release(&mut self, place: &Place) -> bool {
        let Some(registries) = self.held.remove(place) else {
            return false;
        };
        release_one(&mut self.nodes, &place.node);
        for registry in registries.iter() {
            release_one(&mut self.registries, registry);
        }
        true
    }

    /// How many nodes pull.
    pub(super) fn pulling(&self) -> usize {
        self.nodes.len()
    }
}

fn release_one<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headstart_core::workload::DeploymentKey;

    fn place(name: &str, node: &str) -> Place {
        let key = DeploymentKey {
            namespace: "shop".into(),
            name: name.into(),
        };
        let node = node.into();
        Place { key, node }
    }

    fn registries(names: &[&str]) -> Arc<[Box<str>]> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn each_limit_holds_and_frees() {
        let mut ledger = Ledger::new(Limits {
            nodes: 2,
            per_registry: 2,
            per_node: 1,
        });
        let (a, b) = (registries(&["a"]), registries(&["b"]));
        ledger.hold(&place("web", "n1"), &a);
        ledger.hold(&place("web", "n1"), &a);
        assert_eq!(ledger.refuses("n1", &b), Some(Full::Node));
        assert_eq!(ledger.refuses("n2", &a), None);
        ledger.hold(&place("web", "n2"), &a);
        assert_eq!(ledger.refuses("n3", &b), Some(Full::Cluster));
        assert!(ledger.release(&place("web", "n2")) && !ledger.release(&place("web", "n2")));
        assert_eq!(ledger.refuses("n3", &b), None);
        assert_eq!(ledger.pulling(), 1);
    }

    #[test]
    fn a_registry_that_is_busy_holds_up_only_its_own_images() {
        let mut ledger = Ledger::new(Limits {
            per_registry: 1,
            ..Limits::default()
        });
        ledger.hold(&place("web", "n1"), &registries(&["a"]));
        assert_eq!(
            ledger.refuses("n2", &registries(&["b", "a"])),
            Some(Full::Registry)
        );
        assert_eq!(ledger.refuses("n2", &registries(&["b"])), None);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut ledger = Ledger::new(Limits::default());
        for node in 0..1000 {
            let node = node.to_string();
            assert_eq!(ledger.refuses(&node, &registries(&["a"])), None);
            ledger.hold(&place("web", &node), &registries(&["a"]));
        }
        assert_eq!(ledger.refuses("1", &registries(&["a"])), None);
    }
}
