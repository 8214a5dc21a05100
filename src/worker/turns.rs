//! Whose turn it is: round robin over namespaces, and within each over its Deployments, so that one with 5,000
//! nodes does not starve one with three, nor a namespace with a hundred Deployments one with a single one.

use std::collections::{HashMap, HashSet, VecDeque};

use headstart_core::workload::DeploymentKey;

/// Deployments that have something to send.
#[derive(Debug, Default)]
pub(super) struct Turns {
    namespaces: VecDeque<String>,
    of: HashMap<String, VecDeque<DeploymentKey>>,
    known: HashSet<DeploymentKey>,
}

impl Turns {
    /// Queues a Deployment at the end, unless it is queued.
    pub(super) fn add(&mut self, key: &DeploymentKey) {
        if !self.known.insert(key.clone()) {
            return;
        }
        let queue = self.of.entry(key.namespace.clone()).or_default();
        if queue.is_empty() {
            self.namespaces.push_back(key.namespace.clone());
        }
        queue.push_back(key.clone());
    }

    /// Takes the next one out; whoever has more to send adds it again.
    pub(super) fn next(&mut self) -> Option<DeploymentKey> {
        let namespace = self.namespaces.pop_front()?;
        let queue = self.of.get_mut(&namespace)?;
        let key = queue.pop_front()?;
        if queue.is_empty() {
            self.of.remove(&namespace);
        } else {
            self.namespaces.push_back(namespace);
        }
        self.known.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> DeploymentKey {
        DeploymentKey {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Serves these Deployments, each with so much to send, one at a time; in what order.
    fn served(mut left: Vec<(DeploymentKey, usize)>) -> Vec<String> {
        let mut turns = Turns::default();
        for (key, _) in &left {
            turns.add(key);
            turns.add(key);
        }
        let mut order = Vec::new();
        while let Some(key) = turns.next() {
            order.push(key.to_string());
            let (_, left) = left.iter_mut().find(|(k, _)| *k == key).unwrap();
            *left -= 1;
            if *left > 0 {
                turns.add(&key);
            }
        }
        order
    }

    #[test]
    fn a_small_deployment_is_done_after_few_turns() {
        let order = served(vec![(key("a", "big"), 5000), (key("a", "small"), 3)]);
        assert_eq!(order.len(), 5003);
        let last = order.iter().rposition(|key| key == "a/small");
        assert_eq!(last, Some(5));
    }

    #[test]
    fn a_namespace_with_many_deployments_gets_no_more_than_one_with_few() {
        let many = (0..100).map(|n| (key("many", &n.to_string()), 10));
        let order = served(many.chain([(key("one", "web"), 10)]).collect());
        let last = order.iter().rposition(|key| key == "one/web");
        assert_eq!(last, Some(19));
    }
}
