//! Prefetch pods, by the Deployment and the node of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::cache::{Cache, Scope, Update, in_scope};
use super::change::{Change, DeploymentNode, NodeName};
use super::nodes::Nodes;
use super::prefetch_pod::{ObservedPod, PodId, PodImages, PrefetchPod};

use crate::resource_quota::OwnPods;
use crate::workload::DeploymentKey;

/// All prefetch pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    all: Cache<PodId, PrefetchPod>,
    /// The names of the pods of each Deployment on each node.
    by_deployment: BTreeMap<DeploymentKey, BTreeMap<NodeName, BTreeSet<String>>>,
    /// The pods that have ended, by the time of that.
    ended: BTreeSet<(Timestamp, PodId)>,
    /// The number of pods in each namespace.
    counts: BTreeMap<String, OwnPods>,
    /// The pods on each node that its kubelet has acknowledged and that have not ended.
    alive: BTreeMap<NodeName, BTreeSet<PodId>>,
    /// Pods of one image set share their list of images.
    images: BTreeSet<PodImages>,
}

impl Pods {
    pub(super) fn deployments(&self) -> impl Iterator<Item = &DeploymentKey> {
        self.by_deployment.keys()
    }

    pub(super) fn has(&self, key: &DeploymentKey) -> bool {
        self.by_deployment.contains_key(key)
    }

    pub(super) fn nodes_of(&self, key: &DeploymentKey) -> impl Iterator<Item = &NodeName> {
        let nodes = self.by_deployment.get(key);
        nodes.into_iter().flat_map(BTreeMap::keys)
    }

    pub(super) fn on_node(
        &self,
        key: &DeploymentKey,
        node: &str,
    ) -> impl Iterator<Item = &PrefetchPod> {
        let names = self
            .by_deployment
            .get(key)
            .and_then(|nodes| nodes.get(node));
        self.by_name(key, names.into_iter().flatten())
    }

    pub(super) fn has_unfinished(&self, key: &DeploymentKey) -> bool {
        let nodes = self.by_deployment.get(key);
        let names = nodes.into_iter().flat_map(BTreeMap::values).flatten();
        let mut pods = self.by_name(key, names);
        pods.any(|pod| pod.outcome.ended.is_none())
    }

    pub(super) fn ended_count(&self) -> usize {
        self.ended.len()
    }

    /// Returns the pods that have ended, the earliest first.
    pub(super) fn ended(&self) -> impl Iterator<Item = (&PodId, &PrefetchPod)> {
        let ended = self.ended.iter();
        ended.filter_map(|(_, id)| Some((id, self.all.current().get(id)?)))
    }

    /// Returns the Deployments of a namespace that have pods.
    pub(super) fn deployments_in<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a DeploymentKey> {
        let first = DeploymentKey {
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let keys = self.by_deployment.range(first..).map(|(key, _)| key);
        keys.take_while(move |key| key.namespace == namespace)
    }

    /// Returns the number of pods in a namespace.
    pub(super) fn count_in(&self, namespace: &str) -> OwnPods {
        self.counts.get(namespace).copied().unwrap_or_default()
    }

    /// Returns the pods on a node that its kubelet has acknowledged and that have not ended.
    pub(super) fn alive_on(&self, node: &str) -> impl Iterator<Item = &PodId> {
        self.alive.get(node).into_iter().flatten()
    }

    /// Counts a pod that is there now, or is not any more.
    fn count(&mut self, namespace: &str, pod: &PrefetchPod, is_there: bool) {
        let unfinished = u64::from(pod.outcome.ended.is_none());
        let counts = self.counts.entry(namespace.to_owned()).or_default();
        if is_there {
            counts.stored += 1;
            counts.unfinished += unfinished;
            return;
        }
        counts.stored = counts.stored.saturating_sub(1);
        counts.unfinished = counts.unfinished.saturating_sub(unfinished);
        if counts.stored == 0 {
            self.counts.remove(namespace);
        }
    }

    /// Records whether a pod is on its node.
    fn set_alive(&mut self, id: &PodId, pod: &PrefetchPod, is_there: bool) {
        if !pod.outcome.acknowledged || pod.outcome.ended.is_some() {
            return;
        }
        let alive = self.alive.entry(pod.node.clone()).or_default();
        if is_there {
            alive.insert(id.clone());
        } else {
            alive.remove(id);
        }
        if alive.is_empty() {
            self.alive.remove(&pod.node);
        }
    }

    fn by_name<'a>(
        &'a self,
        key: &DeploymentKey,
        names: impl Iterator<Item = &'a String>,
    ) -> impl Iterator<Item = &'a PrefetchPod> {
        let mut id = PodId {
            key: key.clone(),
            name: String::new(),
        };
        names.filter_map(move |name| {
            id.name.clone_from(name);
            self.all.current().get(&id)
        })
    }

    /// Returns the shared copy of a list of images. Lists that no pod has any more are dropped when there are many.
    fn intern_images(&mut self, images: PodImages) -> PodImages {
        const MANY: usize = 256;
        if let Some(known) = self.images.get(&images) {
            return known.clone();
        }
        if self.images.len() >= MANY && self.images.len().is_power_of_two() {
            self.images.retain(|images| Arc::strong_count(images) > 1);
        }
        self.images.insert(images.clone());
        images
    }

    /// Applies an update.
    pub(super) fn apply(
        &mut self,
        scope: &Scope,
        update: Update<PodId, ObservedPod>,
        nodes: &Nodes,
    ) -> Vec<Change> {
        match update {
            Update::ListStarted => {
                self.all.begin_relist(scope);
                Vec::new()
            }
            Update::Applied(id, ObservedPod(mut pod)) => {
                pod.images = self.intern_images(pod.images);
                pod.node = nodes.intern_name(pod.node);
                let node = pod.node.clone();
                let ended = pod.outcome.ended;
                let unchanged = self.all.current().get(&id) == Some(&pod);
                if let Some(before) = self.all.current().get(&id).cloned() {
                    self.set_alive(&id, &before, false);
                }
                self.set_alive(&id, &pod, true);
                self.count(&id.key.namespace, &pod, true);
                let before = self.all.upsert(scope, id.clone(), pod);
                if let Some(before) = &before {
                    self.count(&id.key.namespace, before, false);
                }
                let ended_before = before.and_then(|before| before.outcome.ended);
                if ended_before != ended {
                    if let Some(at) = ended_before {
                        self.ended.remove(&(at, id.clone()));
                    }
                    self.ended.extend(ended.map(|at| (at, id.clone())));
                }
                if unchanged {
                    return Vec::new();
                }
                let PodId { key, name } = id;
                let nodes = self.by_deployment.entry(key.clone()).or_default();
                nodes.entry(node.clone()).or_default().insert(name);
                vec![Change::Pod(DeploymentNode { key, node })]
            }
            Update::Deleted(id) => {
                let removed = self.all.remove(&id);
                let removed = removed.map(|pod| self.remove(id, pod));
                removed.into_iter().collect()
            }
            Update::ListFinished => {
                let covered = |id: &PodId| in_scope(scope, &id.key.namespace);
                let gone = self.all.finish_relist(scope, covered).into_iter();
                gone.map(|(id, pod)| self.remove(id, pod)).collect()
            }
        }
    }

    /// Removes a pod that is gone from the indexes.
    fn remove(&mut self, id: PodId, pod: PrefetchPod) -> Change {
        if let Some(at) = pod.outcome.ended {
            self.ended.remove(&(at, id.clone()));
        }
        self.set_alive(&id, &pod, false);
        let PodId { key, name } = id;
        self.count(&key.namespace, &pod, false);
        let node = pod.node;
        if let Some(nodes) = self.by_deployment.get_mut(&key) {
            if let Some(names) = nodes.get_mut(&node) {
                names.remove(&name);
                if names.is_empty() {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.by_deployment.remove(&key);
            }
        }
        Change::Pod(DeploymentNode { key, node })
    }
}
