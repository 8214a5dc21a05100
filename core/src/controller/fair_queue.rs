//! The order in which Deployments send: round robin over namespaces, and within each over its Deployments. A Deployment
//! with 5,000 nodes does not starve one with three, nor a namespace with a hundred Deployments one with a single one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::workload::DeploymentKey;

/// Deployments that have pods to create.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    namespaces: VecDeque<String>,
    by_namespace: BTreeMap<String, VecDeque<DeploymentKey>>,
    queued: BTreeSet<DeploymentKey>,
}

impl FairQueue {
    /// Adds a Deployment at the end, unless it is in the queue.
    pub(super) fn push(&mut self, key: &DeploymentKey) {
        if !self.queued.insert(key.clone()) {
            return;
        }
        let queue = self.by_namespace.entry(key.namespace.clone()).or_default();
        if queue.is_empty() {
            self.namespaces.push_back(key.namespace.clone());
        }
        queue.push_back(key.clone());
    }

    /// Removes and returns the next Deployment. The caller pushes it again if it has more to send.
    pub(super) fn pop(&mut self) -> Option<DeploymentKey> {
        self.pop_where(|_| true)
    }

    /// Removes and returns the next Deployment of those namespaces that match.
    pub(super) fn pop_where(&mut self, matches: impl Fn(&str) -> bool) -> Option<DeploymentKey> {
        let next = self.namespaces.iter().position(|name| matches(name))?;
        let namespace = self.namespaces.remove(next)?;
        let queue = self.by_namespace.get_mut(&namespace)?;
        let key = queue.pop_front()?;
        if queue.is_empty() {
            self.by_namespace.remove(&namespace);
        } else {
            self.namespaces.push_back(namespace);
        }
        self.queued.remove(&key);
        Some(key)
    }

    /// Returns whether a Deployment of a namespace is in the queue.
    pub(super) fn contains_namespace(&self, namespace: &str) -> bool {
        self.by_namespace.contains_key(namespace)
    }

    /// Returns whether a Deployment is in the queue.
    pub(super) fn contains(&self, key: &DeploymentKey) -> bool {
        self.queued.contains(key)
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

    /// Serves these Deployments, each with so much to send, one at a time. Returns the order.
    fn served(mut left: Vec<(DeploymentKey, usize)>) -> Vec<String> {
        let mut queue = FairQueue::default();
        for (key, _) in &left {
            queue.push(key);
            queue.push(key);
        }
        let mut order = Vec::new();
        while let Some(key) = queue.pop() {
            order.push(key.to_string());
            let (_, left) = left.iter_mut().find(|(k, _)| *k == key).unwrap();
            *left -= 1;
            if *left > 0 {
                queue.push(&key);
            }
        }
        order
    }

    #[test]
    fn a_small_deployment_is_done_after_few_queue() {
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
