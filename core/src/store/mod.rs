//! The cached objects of the cluster, each reduced to the fields that a decision reads, and the
//! questions asked of them.
//!
//! The watches themselves are I/O and stay outside; they parse objects and feed [`Store`] with [`Update`]s.

mod by_namespace;
mod cache;
mod change;
mod deployments;
mod nodes;
mod pods;
mod prefetch_pod;
mod quotas;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use by_namespace::ObjectKey;
pub use cache::{Scope, Update};
pub use change::{Change, DeploymentNode, NodeName};
pub use deployments::same_pull_terms;
pub use nodes::{NodeRecord, NodeSnapshot};
pub use prefetch_pod::{ObservedPod, PodId, PrefetchPod};

use crate::api::mode::{Mode, NamespaceMode, effective_mode, is_exempt};
use crate::limit_range::ResourceBounds;
use crate::resource_quota::PodQuota;
use crate::workload::{DeploymentKey, Workload};
use by_namespace::ByNamespace;
use cache::{Cache, in_scope};
use deployments::Deployments;
use nodes::Nodes;
use pods::Pods;

/// The objects.
#[derive(Debug, Default)]
pub struct Store {
    own_namespace: String,
    /// The consent of each namespace, `None` where it says nothing.
    namespaces: Cache<String, Option<NamespaceMode>>,
    deployments: Deployments,
    nodes: Nodes,
    pods: Pods,
    limit_ranges: ByNamespace<ResourceBounds>,
    quotas: ByNamespace<PodQuota>,
}

impl Store {
    /// Returns an empty store. Nothing in headstart's `own_namespace` is prefetched.
    pub fn new(own_namespace: &str) -> Self {
        Self {
            own_namespace: own_namespace.to_owned(),
            ..Self::default()
        }
    }

    /// Returns a stored Deployment that has prefetch enabled.
    pub fn enabled(&self, key: &DeploymentKey) -> Option<&Arc<Workload>> {
        let workload = self.deployments.get(key)?;
        self.mode(workload).is_enabled().then_some(workload)
    }

    /// Returns the Deployments that have prefetch enabled.
    pub fn all_enabled(&self) -> impl Iterator<Item = &Arc<Workload>> {
        let workloads = self.deployments.all();
        workloads.filter(|workload| self.mode(workload).is_enabled())
    }

    /// Returns a stored Deployment with its effective mode.
    pub fn get(&self, key: &DeploymentKey) -> Option<(&Arc<Workload>, Mode)> {
        let workload = self.deployments.get(key)?;
        Some((workload, self.mode(workload)))
    }

    /// Returns the Deployments that carry the mark of a hold, in any mode.
    pub fn held_deployments(&self) -> impl Iterator<Item = &DeploymentKey> {
        self.deployments.held()
    }

    /// Returns all nodes, in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.nodes.all()
    }

    /// Returns all nodes as they are now, for a reader that does not keep the store locked.
    pub fn node_snapshot(&self) -> NodeSnapshot {
        self.nodes.snapshot()
    }

    /// Returns a node.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeRecord>> {
        self.nodes.get(name)
    }

    /// Returns a Deployment's prefetch pods on a node, of all its image sets.
    pub fn pods_on_node(&self, key: &DeploymentKey, node: &str) -> Vec<&PrefetchPod> {
        self.pods.on_node(key, node).collect()
    }

    /// Returns the prefetch pods on a node that its kubelet has acknowledged and that have not ended.
    pub fn alive_pods_on(&self, node: &str) -> impl Iterator<Item = &PodId> {
        self.pods.alive_on(node)
    }

    /// Returns the nodes that have prefetch pods of a Deployment.
    pub fn nodes_with_pods(&self, key: &DeploymentKey) -> Vec<NodeName> {
        self.pods.nodes_of(key).cloned().collect()
    }

    /// Returns the Deployments that have prefetch pods, also those that are disabled or gone.
    pub fn deployments_with_pods(&self) -> impl Iterator<Item = &DeploymentKey> {
        self.pods.deployments()
    }

    /// Returns whether a Deployment has prefetch pods.
    pub fn has_pods(&self, key: &DeploymentKey) -> bool {
        self.pods.has(key)
    }

    /// Returns whether a Deployment has prefetch pods that have not ended.
    pub fn has_unfinished_pods(&self, key: &DeploymentKey) -> bool {
        self.pods.has_unfinished(key)
    }

    /// Returns the number of prefetch pods that have ended.
    pub fn ended_pod_count(&self) -> usize {
        self.pods.ended_count()
    }

    /// Returns the prefetch pods that have ended, the earliest first.
    pub fn ended_pods(&self) -> impl Iterator<Item = (&PodId, &PrefetchPod)> {
        self.pods.ended()
    }

    /// Returns the bounds that the LimitRanges of a namespace set; `None` if it has none.
    pub fn resource_bounds(&self, namespace: &str) -> Option<ResourceBounds> {
        let mut ranges = self.limit_ranges.of(namespace).map(|(_, bounds)| bounds);
        let mut all = ranges.next()?.clone();
        ranges.for_each(|bounds| all.merge(bounds));
        Some(all)
    }

    fn mode(&self, workload: &Workload) -> Mode {
        if self.is_exempt(&workload.key.namespace) {
            return Mode::Disabled;
        }
        let namespace = self.namespaces.current().get(&workload.key.namespace);
        effective_mode(&workload.mode, namespace.copied().flatten())
    }

    fn is_exempt(&self, namespace: &str) -> bool {
        is_exempt(namespace, &self.own_namespace)
    }

    /// Applies an update of a namespace. Returns the Deployments whose mode it can change.
    pub fn apply_namespace(
        &mut self,
        scope: &Scope,
        update: Update<String, Option<NamespaceMode>>,
    ) -> Vec<Change> {
        let changed: BTreeSet<String> = match update {
            Update::ListStarted => {
                self.namespaces.begin_relist(scope);
                BTreeSet::new()
            }
            Update::Applied(name, mode) => {
                let before = self.namespaces.upsert(scope, name.clone(), mode);
                // A namespace that was not known had consented to nothing.
                let changed = before.flatten() != mode;
                changed.then_some(name).into_iter().collect()
            }
            Update::Deleted(name) => {
                self.namespaces.remove(&name);
                [name].into()
            }
            Update::ListFinished => {
                let gone = self
                    .namespaces
                    .finish_relist(scope, |name| in_scope(scope, name));
                gone.into_iter().map(|(name, _)| name).collect()
            }
        };
        let deployments = changed
            .iter()
            .flat_map(|name| self.deployments.in_namespace(name));
        deployments.cloned().map(Change::Deployment).collect()
    }

    /// Applies an update of a Deployment. Scaling, and annotations of others, cause no change.
    pub fn apply_deployment(
        &mut self,
        scope: &Scope,
        update: Update<DeploymentKey, Workload>,
    ) -> Vec<Change> {
        let mut changes = self.deployments.apply(scope, update);
        // The rollouts of all other Deployments go on all the time.
        changes.retain(|change| match change {
            Change::Rollout(key) => self.enabled(key).is_some() || self.has_pods(key),
            _ => true,
        });
        changes
    }

    /// Applies an update of a node. A heartbeat causes no change.
    pub fn apply_node(
        &mut self,
        scope: &Scope,
        update: Update<NodeName, NodeRecord>,
    ) -> Vec<Change> {
        self.nodes.apply(scope, update)
    }

    /// Applies an update of a LimitRange. It counts for the pods that are created from then on.
    pub fn apply_limit_range(
        &mut self,
        scope: &Scope,
        update: Update<ObjectKey, ResourceBounds>,
    ) -> Vec<Change> {
        self.limit_ranges.apply(scope, update);
        Vec::new()
    }

    /// Applies an update of a prefetch pod. Nothing in an exempt namespace is looked at.
    pub fn apply_pod(&mut self, scope: &Scope, update: Update<PodId, ObservedPod>) -> Vec<Change> {
        match &update {
            Update::Applied(id, _) | Update::Deleted(id) if self.is_exempt(&id.key.namespace) => {
                Vec::new()
            }
            _ => self.pods.apply(scope, update, &self.nodes),
        }
    }
}
