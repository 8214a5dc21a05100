//! What the worker knows of the cluster: caches fed by watches, each reduced to what a decision reads.
//!
//! A change that could ask for work pushes a key; what it means is decided by whoever takes it.

mod lean;
mod machines;
mod pods;
mod stock;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod verdict;
mod watch;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use tracing::warn;

use crate::metrics::Metrics;
use crate::queue::Queue;
use headstart_core::api::mode::{Mode, NamespaceMode, effective_mode, is_exempt, namespace_mode};
use headstart_core::workload::{DeploymentKey, Workload};
pub use machines::Machine;
use pods::Pods;
pub use pods::{Place, PrefetchPod};
use table::{Change, Scope, Table};

/// What is told to the caches.
#[derive(Debug)]
pub struct Settings {
    /// headstart's own namespace.
    pub own_namespace: String,
    /// The image that prefetch pods run.
    pub noop_image: String,
    /// Keep what nodes say of the images they have.
    pub node_images: bool,
    /// Counts what the watches bring.
    pub metrics: Arc<Metrics>,
}

/// The caches.
#[derive(Debug)]
pub struct Cluster {
    own_namespace: String,
    noop_image: String,
    node_images: bool,
    metrics: Arc<Metrics>,
    /// Never held across an await: every critical section is a few map operations or one scan.
    state: Mutex<State>,
    /// Deployments whose images, mode, placement or existence changed.
    pub rollouts: Queue,
    /// Where a prefetch pod changed.
    pub places: Queue<Place>,
    /// Nodes that came, went or changed in a way that placement reads.
    pub machines: Queue<Arc<str>>,
    /// How many lists are still to be completed; none before the watches have begun.
    lists_open: tokio::sync::watch::Sender<Option<usize>>,
}

#[derive(Debug, Default)]
struct State {
    /// What each namespace consents to, `None` where it says nothing.
    namespaces: Table<String, Option<NamespaceMode>>,
    workloads: Table<DeploymentKey, Arc<Workload>>,
    /// Those of them that are marked as held.
    held: BTreeSet<DeploymentKey>,
    nodes: Table<Arc<str>, Machine>,
    pods: Pods,
}

impl State {
    /// The name of a node, shared with the node if it is known.
    fn node_name(&self, name: &str) -> Arc<str> {
        match self.nodes.current.get_key_value(name) {
            Some((known, _)) => known.clone(),
            None => name.into(),
        }
    }
}

impl Cluster {
    /// Empty caches.
    pub fn new(settings: Settings) -> Arc<Self> {
        let Settings {
            own_namespace,
            noop_image,
            node_images,
            metrics,
        } = settings;
        Arc::new(Self {
            own_namespace,
            noop_image,
            node_images,
            metrics,
            state: Mutex::default(),
            rollouts: Queue::default(),
            places: Queue::default(),
            machines: Queue::default(),
            lists_open: tokio::sync::watch::Sender::new(None),
        })
    }

    fn expect_lists(&self, lists: usize) {
        self.lists_open.send_replace(Some(lists));
    }

    fn list_completed(&self) {
        self.lists_open
            .send_modify(|open| *open = open.map(|open| open.saturating_sub(1)));
    }

    /// Waits until every cache has seen its whole initial list.
    pub async fn wait_until_synced(&self) {
        let mut open = self.lists_open.subscribe();
        // Fails only if the sender is gone, and it is ours.
        let _ = open.wait_for(|open| *open == Some(0)).await;
    }

    fn is_synced(&self) -> bool {
        *self.lists_open.borrow() == Some(0)
    }

    /// The stored Deployment, if it is to be prefetched for.
    pub fn opted_in(&self, key: &DeploymentKey) -> Option<Arc<Workload>> {
        self.opted_in_of(&self.lock(), key).cloned()
    }

    /// The Deployments that are to be prefetched for.
    pub fn all_opted_in(&self) -> Vec<Arc<Workload>> {
        let state = self.lock();
        let workloads = state.workloads.current.values();
        workloads
            .filter(|workload| self.mode(&state, workload).is_enabled())
            .cloned()
            .collect()
    }

    /// The stored Deployment, and what is asked for it.
    pub fn stored(&self, key: &DeploymentKey) -> Option<(Arc<Workload>, Mode)> {
        let state = self.lock();
        let workload = state.workloads.current.get(key)?;
        Some((workload.clone(), self.mode(&state, workload)))
    }

    /// The Deployments that are marked as held, whatever is asked for them.
    pub fn held(&self) -> Vec<DeploymentKey> {
        self.lock().held.iter().cloned().collect()
    }

    /// Every node.
    pub fn nodes(&self) -> Vec<Machine> {
        self.lock().nodes.current.values().cloned().collect()
    }

    /// Every node by its name, unless there are more than so many.
    fn nodes_up_to(&self, most: usize) -> Option<HashMap<Arc<str>, Machine>> {
        let state = self.lock();
        let nodes = &state.nodes.current;
        (nodes.len() <= most).then(|| nodes.clone())
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<Machine> {
        self.lock().nodes.current.get(name).cloned()
    }

    /// A Deployment's prefetch pods on a node, whatever rollout they were made for.
    pub fn pods_at(&self, key: &DeploymentKey, node: &str) -> Vec<PrefetchPod> {
        self.lock().pods.at(key, node)
    }

    /// The nodes that have prefetch pods of a Deployment.
    pub fn nodes_with_pods(&self, key: &DeploymentKey) -> Vec<Arc<str>> {
        self.lock().pods.nodes_of(key)
    }

    /// The Deployments that have prefetch pods, be they opted in or even stored, of which this is so. It is asked with
    /// what [`Self::opted_in`] says of each.
    pub fn with_pods(
        &self,
        is_so: impl Fn(&DeploymentKey, Option<&Arc<Workload>>) -> bool,
    ) -> Vec<DeploymentKey> {
        let state = self.lock();
        let keys = state.pods.keys();
        keys.filter(|key| is_so(key, self.opted_in_of(&state, key)))
            .cloned()
            .collect()
    }

    /// Whether a Deployment has prefetch pods.
    pub fn has_pods(&self, key: &DeploymentKey) -> bool {
        self.lock().pods.has(key)
    }

    /// Whether a Deployment has prefetch pods that have not ended.
    pub fn has_running_pods(&self, key: &DeploymentKey) -> bool {
        self.lock().pods.are_running(key)
    }

    /// Which of these UIDs no prefetch pod has any more.
    pub fn gone<'a>(&self, uids: impl Iterator<Item = &'a String>) -> HashSet<String> {
        let mut gone: HashSet<&String> = uids.collect();
        for pod in self.lock().pods.all() {
            gone.remove(&pod.uid);
        }
        gone.into_iter().cloned().collect()
    }

    fn opted_in_of<'a>(&self, state: &'a State, key: &DeploymentKey) -> Option<&'a Arc<Workload>> {
        let workload = state.workloads.current.get(key)?;
        self.mode(state, workload).is_enabled().then_some(workload)
    }

    fn mode(&self, state: &State, workload: &Workload) -> Mode {
        if is_exempt(&workload.key.namespace, &self.own_namespace) {
            return Mode::Disabled;
        }
        let namespace = state.namespaces.current.get(&workload.key.namespace);
        effective_mode(&workload.mode, namespace.copied().flatten())
    }

    fn on_namespace(&self, scope: &Scope, change: Change<PartialObjectMeta<Namespace>>) {
        let mut state = self.lock();
        let touched: HashSet<String> = match change {
            Change::Begin => {
                state.namespaces.begin_list(scope);
                return;
            }
            Change::Put(namespace) => {
                let Some(name) = namespace.metadata.name else {
                    return;
                };
                let mode = namespace_mode(namespace.metadata.labels.as_ref());
                let mode = mode.unwrap_or_else(|error| {
                    warn!(namespace = %name, %error, "namespace is not opted in");
                    None
                });
                let before = state.namespaces.put(scope, name.clone(), mode);
                // One that is not known yet has consented to nothing.
                if before.flatten() == mode {
                    return;
                }
                [name].into()
            }
            Change::Remove(namespace) => {
                let Some(name) = namespace.metadata.name else {
                    return;
                };
                state.namespaces.remove(&name);
                [name].into()
            }
            Change::End => {
                let gone = state.namespaces.end_list(scope, |name| covers(scope, name));
                gone.into_iter().map(|(name, _)| name).collect()
            }
        };
        for key in state
            .workloads
            .current
            .keys()
            .filter(|key| touched.contains(&key.namespace))
        {
            self.rollouts.push(key.clone());
        }
    }

    fn on_deployment(&self, scope: &Scope, change: Change<Deployment>) {
        match change {
            Change::Begin => self.lock().workloads.begin_list(scope),
            Change::Put(deployment) => {
                let Some(workload) = Workload::from_deployment(&deployment) else {
                    return;
                };
                let mut state = self.lock();
                let key = workload.key.clone();
                if workload.held.is_some() {
                    state.held.insert(key.clone());
                } else {
                    state.held.remove(&key);
                }
                let workload = Arc::new(workload);
                let before = state.workloads.put(scope, key.clone(), workload.clone());
                // Scaling, restarting, annotations of others and every status change stop here.
                if before.is_none_or(|before| asks_for_work(&before, &workload)) {
                    self.rollouts.push(key);
                }
            }
            Change::Remove(deployment) => {
                if let Some(workload) = Workload::from_deployment(&deployment) {
                    let mut state = self.lock();
                    state.workloads.remove(&workload.key);
                    state.held.remove(&workload.key);
                    self.rollouts.push(workload.key);
                }
            }
            Change::End => {
                let mut state = self.lock();
                let gone = state
                    .workloads
                    .end_list(scope, |key| covers(scope, &key.namespace));
                for (key, _) in gone {
                    state.held.remove(&key);
                    self.rollouts.push(key);
                }
            }
        }
    }

    /// A panic in a critical section leaves no map half-written, so poison is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a watch of this scope brings what is in this namespace.
fn covers(scope: &Scope, namespace: &str) -> bool {
    scope.as_deref().is_none_or(|scope| scope == namespace)
}

/// Whether a change of a Deployment could change what is prefetched, or where.
fn asks_for_work(before: &Workload, after: &Workload) -> bool {
    before.image_set != after.image_set
        || before.uid != after.uid
        || before.mode != after.mode
        || before.held != after.held
        || !asks_the_same(before, after)
}

/// Whether two states of a Deployment with the same images ask for them in the same way and places.
pub fn asks_the_same(a: &Workload, b: &Workload) -> bool {
    a.constraints == b.constraints
        && a.too_large == b.too_large
        && a.annotations == b.annotations
        && a.image_pull_secrets == b.image_pull_secrets
        && a.service_account == b.service_account
        && a.runtime_class == b.runtime_class
}
