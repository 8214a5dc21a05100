//! What the worker knows of the cluster: caches fed by watches, each reduced to what a decision reads.
//!
//! A change that could ask for work pushes the Deployment's key; what it means is decided by whoever takes it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::domain::contract::{
    DEPLOYMENT_LABEL, MANAGED_BY_LABEL, MANAGER, Mode, REVISION_LABEL, effective_mode, is_exempt,
    labelled_mode,
};
use crate::domain::node::Candidate;
use crate::domain::outcome::{self, PodOutcome};
use crate::domain::pod::node_of;
use crate::domain::workload::{Key, Revision, Workload};
use crate::queue::Queue;

/// Objects per page of an initial list: bounds what one response holds in memory at a time.
const PAGE_SIZE: u32 = 500;

/// A prefetch pod, reduced to what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefetchPod {
    /// Its UID: a deletion must never hit a namesake.
    pub uid: String,
    /// The node it is bound to.
    pub node: String,
    /// The images it pulls.
    pub revision: Revision,
    /// What its status says.
    pub outcome: PodOutcome,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether it is on its way out.
    pub deleting: bool,
}

/// The caches.
#[derive(Debug)]
pub struct Cluster {
    own_namespace: String,
    noop_image: String,
    /// Never held across an await: every critical section is a few map operations or one scan.
    state: Mutex<State>,
    /// Deployments whose plan, mode or existence changed.
    pub rollouts: Queue,
    /// Deployments of whose prefetch pods one changed.
    pub pods: Queue,
    synced: watch::Sender<Synced>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: Table<String, Mode>,
    workloads: Table<Key, Arc<Workload>>,
    nodes: Table<String, Arc<Candidate>>,
    pods: Table<(Key, String), PrefetchPod>,
    /// Names of the pods of each Deployment.
    pods_of: HashMap<Key, HashSet<String>>,
}

/// Which caches have seen their whole initial list.
#[derive(Clone, Copy, Debug, Default)]
struct Synced {
    namespaces: bool,
    workloads: bool,
    nodes: bool,
    pods: bool,
}

impl Synced {
    fn all(&self) -> bool {
        let Self {
            namespaces,
            workloads,
            nodes,
            pods,
        } = *self;
        namespaces && workloads && nodes && pods
    }
}

/// One kind of object by its key. A list that is read again replaces what it does not mention.
#[derive(Debug)]
struct Table<K, V> {
    current: HashMap<K, V>,
    /// Keys that the list under way has mentioned so far.
    listed: Option<HashSet<K>>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            current: HashMap::new(),
            listed: None,
        }
    }
}

impl<K: Clone + Eq + Hash, V> Table<K, V> {
    fn begin_list(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// Puts a value in; the one it replaces.
    fn put(&mut self, key: K, value: V) -> Option<V> {
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        self.current.insert(key, value)
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        self.current.remove(key)
    }

    /// Drops what the list did not mention; the keys of that.
    fn end_list(&mut self) -> Vec<K> {
        let Some(listed) = self.listed.take() else {
            return Vec::new();
        };
        let gone: Vec<K> = self
            .current
            .keys()
            .filter(|key| !listed.contains(key))
            .cloned()
            .collect();
        for key in &gone {
            self.current.remove(key);
        }
        gone
    }
}

/// An event reduced to what every cache does with it.
enum Change<T> {
    Begin,
    Put(T),
    Remove(T),
    End,
}

impl<T> From<Event<T>> for Change<T> {
    fn from(event: Event<T>) -> Self {
        match event {
            Event::Init => Self::Begin,
            Event::InitApply(object) | Event::Apply(object) => Self::Put(object),
            Event::Delete(object) => Self::Remove(object),
            Event::InitDone => Self::End,
        }
    }
}

impl Cluster {
    /// Empty caches. `own_namespace` is headstart's, `noop_image` the image its prefetch pods run.
    pub fn new(own_namespace: &str, noop_image: &str) -> Arc<Self> {
        Arc::new(Self {
            own_namespace: own_namespace.to_owned(),
            noop_image: noop_image.to_owned(),
            state: Mutex::default(),
            rollouts: Queue::default(),
            pods: Queue::default(),
            synced: watch::Sender::default(),
        })
    }

    /// Starts the watches. They run until the process ends: a watch that fails is begun again, with back-off.
    pub fn spawn(self: &Arc<Self>, client: &Client, tasks: &TaskTracker) {
        let config = watcher::Config::default().page_size(PAGE_SIZE);
        let ours = config
            .clone()
            .labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
        let namespaces = watcher::watcher(
            Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
            config.clone(),
        );
        tasks.spawn(follow(
            "namespaces",
            namespaces,
            self.clone(),
            Self::on_namespace,
        ));
        let nodes = watcher::watcher(Api::<Node>::all(client.clone()), config.clone());
        tasks.spawn(follow("nodes", nodes, self.clone(), Self::on_node));
        let deployments = watcher::watcher(Api::<Deployment>::all(client.clone()), config);
        tasks.spawn(follow(
            "deployments",
            deployments,
            self.clone(),
            Self::on_deployment,
        ));
        let pods = watcher::watcher(Api::<Pod>::all(client.clone()), ours);
        tasks.spawn(follow("pods", pods, self.clone(), Self::on_pod));
    }

    /// Waits until every cache has seen its whole initial list.
    pub async fn wait_until_synced(&self) {
        // Fails only if the sender is gone, and it is ours.
        let _ = self.synced.subscribe().wait_for(Synced::all).await;
    }

    /// Whether every cache has seen its whole initial list.
    pub fn is_synced(&self) -> bool {
        self.synced.borrow().all()
    }

    /// The stored Deployment, if it is to be prefetched for.
    pub fn opted_in(&self, key: &Key) -> Option<Arc<Workload>> {
        let state = self.lock();
        let workload = state.workloads.current.get(key)?;
        self.mode(&state, workload)
            .prefetches()
            .then(|| workload.clone())
    }

    /// The Deployments that are to be prefetched for.
    pub fn all_opted_in(&self) -> Vec<Arc<Workload>> {
        let state = self.lock();
        let workloads = state.workloads.current.values();
        workloads
            .filter(|workload| self.mode(&state, workload).prefetches())
            .cloned()
            .collect()
    }

    /// Every node.
    pub fn nodes(&self) -> Vec<Arc<Candidate>> {
        self.lock().nodes.current.values().cloned().collect()
    }

    /// A Deployment's prefetch pods by name, whatever revision they are of.
    pub fn pods_of(&self, key: &Key) -> BTreeMap<String, PrefetchPod> {
        let state = self.lock();
        let names = state.pods_of.get(key).into_iter().flatten();
        names
            .filter_map(|name| {
                let pod = state.pods.current.get(&(key.clone(), name.clone()))?;
                Some((name.clone(), pod.clone()))
            })
            .collect()
    }

    /// The Deployments that have prefetch pods, be they opted in or even stored.
    pub fn keys_with_pods(&self) -> Vec<Key> {
        self.lock().pods_of.keys().cloned().collect()
    }

    fn mode(&self, state: &State, workload: &Workload) -> Mode {
        if is_exempt(&workload.key.namespace, &self.own_namespace) {
            return Mode::Disabled;
        }
        let namespace = state.namespaces.current.get(&workload.key.namespace);
        effective_mode(&workload.mode, namespace.copied())
    }

    fn on_namespace(&self, change: Change<PartialObjectMeta<Namespace>>) {
        let mut state = self.lock();
        let touched = match change {
            Change::Begin => {
                state.namespaces.begin_list();
                return;
            }
            Change::Put(namespace) => {
                let Some(name) = namespace.metadata.name else {
                    return;
                };
                let mode = match labelled_mode(namespace.metadata.labels.as_ref()) {
                    Ok(mode) => mode.unwrap_or(Mode::Disabled),
                    Err(error) => {
                        warn!(namespace = %name, %error, "namespace is not opted in");
                        Mode::Disabled
                    }
                };
                let before = state.namespaces.put(name.clone(), mode);
                if before == Some(mode) || (before.is_none() && mode == Mode::Disabled) {
                    return;
                }
                vec![name]
            }
            Change::Remove(namespace) => {
                let Some(name) = namespace.metadata.name else {
                    return;
                };
                state.namespaces.remove(&name);
                vec![name]
            }
            Change::End => {
                self.synced.send_modify(|synced| synced.namespaces = true);
                state.namespaces.end_list()
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

    fn on_node(&self, change: Change<Node>) {
        let mut state = self.lock();
        match change {
            Change::Begin => state.nodes.begin_list(),
            Change::Put(node) => {
                if let Some(candidate) = Candidate::from_node(&node) {
                    state.nodes.put(candidate.name.clone(), Arc::new(candidate));
                }
            }
            Change::Remove(node) => {
                state.nodes.remove(&node.metadata.name.unwrap_or_default());
            }
            Change::End => {
                state.nodes.end_list();
                self.synced.send_modify(|synced| synced.nodes = true);
            }
        }
    }

    fn on_deployment(&self, change: Change<Deployment>) {
        let mut state = self.lock();
        match change {
            Change::Begin => state.workloads.begin_list(),
            Change::Put(deployment) => {
                let Some(workload) = Workload::from_deployment(&deployment) else {
                    return;
                };
                let workload = Arc::new(workload);
                let key = workload.key.clone();
                let before = state.workloads.put(key.clone(), workload.clone());
                // Scaling, annotating, restarting and every status change stop here.
                let same = before.is_some_and(|before| {
                    before.plans_as(&workload) && before.mode == workload.mode
                });
                if !same {
                    self.rollouts.push(key);
                }
            }
            Change::Remove(deployment) => {
                if let Some(workload) = Workload::from_deployment(&deployment) {
                    state.workloads.remove(&workload.key);
                    self.rollouts.push(workload.key);
                }
            }
            Change::End => {
                for key in state.workloads.end_list() {
                    self.rollouts.push(key);
                }
                self.synced.send_modify(|synced| synced.workloads = true);
            }
        }
    }

    fn on_pod(&self, change: Change<Pod>) {
        let mut state = self.lock();
        match change {
            Change::Begin => state.pods.begin_list(),
            Change::Put(pod) => {
                let Some(id) = id_of(&pod) else { return };
                let (key, name) = id.clone();
                let pod = PrefetchPod {
                    uid: pod.metadata.uid.clone().unwrap_or_default(),
                    node: node_of(&pod).unwrap_or_default().to_owned(),
                    revision: pod
                        .metadata
                        .labels
                        .as_ref()
                        .and_then(|l| l.get(REVISION_LABEL))
                        .map_or("", |r| r)
                        .into(),
                    outcome: outcome::read(&pod, &self.noop_image),
                    created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
                    deleting: pod.metadata.deletion_timestamp.is_some(),
                };
                let before = state.pods.put(id, pod.clone());
                if before.as_ref() == Some(&pod) {
                    return;
                }
                state.pods_of.entry(key.clone()).or_default().insert(name);
                self.pods.push(key);
            }
            Change::Remove(pod) => {
                if let Some(id) = id_of(&pod) {
                    state.pods.remove(&id);
                    self.forget_pod(&mut state, id);
                }
            }
            Change::End => {
                for id in state.pods.end_list() {
                    self.forget_pod(&mut state, id);
                }
                self.synced.send_modify(|synced| synced.pods = true);
            }
        }
    }

    fn forget_pod(&self, state: &mut State, (key, name): (Key, String)) {
        if let Some(names) = state.pods_of.get_mut(&key) {
            names.remove(&name);
            if names.is_empty() {
                state.pods_of.remove(&key);
            }
        }
        self.pods.push(key);
    }

    /// A panic in a critical section leaves no map half-written, so poison is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Deployment that a prefetch pod belongs to, and the pod's name. The owner says so; a pod that was orphaned
/// has only its label.
fn id_of(pod: &Pod) -> Option<(Key, String)> {
    let metadata = &pod.metadata;
    let owner = metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == "Deployment");
    let label = || metadata.labels.as_ref()?.get(DEPLOYMENT_LABEL).cloned();
    let name = owner.map(|owner| owner.name.clone()).or_else(label)?;
    Some((
        Key {
            namespace: metadata.namespace.clone()?,
            name,
        },
        metadata.name.clone()?,
    ))
}

/// Feeds a watch into a cache.
async fn follow<T: Debug + Send + 'static>(
    what: &'static str,
    events: impl Stream<Item = watcher::Result<Event<T>>>,
    cluster: Arc<Cluster>,
    on_change: fn(&Cluster, Change<T>),
) {
    let mut events = std::pin::pin!(events.default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => on_change(&cluster, event.into()),
            Err(error) => warn!(what, %error, "watch failed; it is begun again after a pause"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cluster() -> Arc<Cluster> {
        let cluster = Cluster::new("headstart", "headstart:v1");
        namespace(&cluster, "shop", Some("enabled"));
        cluster
    }

    fn namespace(cluster: &Cluster, name: &str, mode: Option<&str>) {
        let labels = mode.map(|mode| json!({"headstart.dev/prefetch": mode}));
        let object =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
        cluster.on_namespace(Change::Put(object));
    }

    fn deployment(cluster: &Cluster, namespace: &str, change: Value) {
        let mut object = json!({
            "metadata": {"namespace": namespace, "name": "web", "uid": "1", "generation": 1},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}}},
        });
        json_patch::merge(&mut object, &change);
        cluster.on_deployment(Change::Put(serde_json::from_value(object).unwrap()));
    }

    fn key(namespace: &str) -> Key {
        Key {
            namespace: namespace.into(),
            name: "web".into(),
        }
    }

    #[tokio::test]
    async fn only_what_changes_the_plan_asks_for_work() {
        let cluster = cluster();
        deployment(&cluster, "shop", json!({}));
        assert_eq!(cluster.rollouts.take().await, key("shop"));
        for harmless in [
            json!({"spec": {"replicas": 9}}),
            json!({"metadata": {"annotations": {"a": "b"}}}),
            json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}),
            json!({"status": {"replicas": 3}}),
        ] {
            deployment(&cluster, "shop", harmless.clone());
            assert!(cluster.rollouts.is_empty(), "{harmless}");
        }
        for change in [
            json!({"metadata": {"labels": {"headstart.dev/prefetch": "disabled"}}}),
            json!({"metadata": {"annotations": {"headstart.dev/max-nodes": "3"}}}),
            json!({"spec": {"template": {"spec": {"nodeSelector": {"pool": "web"}}}}}),
        ] {
            deployment(&cluster, "shop", change.clone());
            assert_eq!(cluster.rollouts.len(), 1, "{change}");
            cluster.rollouts.clear();
        }
    }

    #[test]
    fn only_opted_in_deployments_are_found() {
        let cluster = cluster();
        for ns in ["shop", "other", "kube-system", "headstart"] {
            deployment(&cluster, ns, json!({}));
        }
        namespace(&cluster, "kube-system", Some("enabled"));
        namespace(&cluster, "headstart", Some("enabled"));
        assert!(cluster.opted_in(&key("shop")).is_some());
        for ns in ["other", "kube-system", "headstart"] {
            assert!(cluster.opted_in(&key(ns)).is_none(), "{ns}");
        }
    }

    #[test]
    fn a_list_that_is_read_again_drops_what_it_does_not_mention() {
        let cluster = cluster();
        deployment(&cluster, "shop", json!({}));
        cluster.rollouts.clear();
        cluster.on_deployment(Change::Begin);
        cluster.on_deployment(Change::End);
        assert!(cluster.opted_in(&key("shop")).is_none());
        assert_eq!(cluster.rollouts.len(), 1);
    }

    #[test]
    fn pods_are_found_by_their_deployment() {
        let cluster = cluster();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "namespace": "shop", "name": "prefetch-web-1", "labels": {"headstart.dev/revision": "r1"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1"}],
            },
            "spec": {"containers": [], "nodeName": "n1"},
        }))
        .unwrap();
        cluster.on_pod(Change::Put(pod.clone()));
        assert_eq!(cluster.pods_of(&key("shop"))["prefetch-web-1"].node, "n1");
        cluster.on_pod(Change::Remove(pod));
        assert!(cluster.pods_of(&key("shop")).is_empty() && cluster.keys_with_pods().is_empty());
    }
}
