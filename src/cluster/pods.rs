//! Our own pods, by the place that each is for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::table::{Change, Scope, Table};
use super::{Cluster, covers};
use headstart_core::api::mode::is_exempt;
use headstart_core::api::well_known::{DEPLOYMENT_LABEL, REVISION_LABEL};
use headstart_core::image::ImageRef;
use headstart_core::image::ImageSetId;
use headstart_core::pod::status;
use headstart_core::pod::status::PodStatusSummary;
use headstart_core::pod::{is_prefetch_pod, node_of};
use headstart_core::workload::DeploymentKey;

/// A Deployment on a node: what one prefetch pod is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The Deployment.
    pub key: DeploymentKey,
    /// The node.
    pub node: Arc<str>,
}

/// A prefetch pod, reduced to what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefetchPod {
    /// Its name.
    pub name: String,
    /// Its UID: a deletion must never hit a namesake.
    pub uid: String,
    /// The node it is bound to.
    pub node: Arc<str>,
    /// The UID of the Deployment that owns it, unless it was orphaned.
    pub owner: Option<String>,
    /// The rollout that it was made for.
    pub revision: ImageSetId,
    /// The images it pulls, in the order of its outcomes; one that cannot be read is one that nobody wants.
    pub images: Arc<[Option<ImageRef>]>,
    /// What its status says.
    pub outcome: PodStatusSummary,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether it is on its way out.
    pub deleting: bool,
}

#[derive(Debug, Default)]
pub(super) struct Pods {
    table: Table<(DeploymentKey, String), PrefetchPod>,
    /// Names of the pods of each Deployment on each node.
    places: HashMap<DeploymentKey, HashMap<Arc<str>, BTreeSet<String>>>,
    /// Pods of one rollout share their images.
    images: HashSet<Arc<[Option<ImageRef>]>>,
}

impl Pods {
    pub(super) fn keys(&self) -> impl Iterator<Item = &DeploymentKey> {
        self.places.keys()
    }

    pub(super) fn has(&self, key: &DeploymentKey) -> bool {
        self.places.contains_key(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PrefetchPod> {
        self.table.current.values()
    }

    pub(super) fn nodes_of(&self, key: &DeploymentKey) -> Vec<Arc<str>> {
        let nodes = self.places.get(key).into_iter().flat_map(HashMap::keys);
        nodes.cloned().collect()
    }

    pub(super) fn at(&self, key: &DeploymentKey, node: &str) -> Vec<PrefetchPod> {
        let names = self.places.get(key).and_then(|nodes| nodes.get(node));
        let found = self.named(key, names.into_iter().flatten());
        found.cloned().collect()
    }

    pub(super) fn are_running(&self, key: &DeploymentKey) -> bool {
        let names = self.places.get(key).into_iter().flat_map(HashMap::values);
        let mut found = self.named(key, names.flatten());
        found.any(|pod| pod.outcome.ended.is_none())
    }

    fn named<'a>(
        &'a self,
        key: &DeploymentKey,
        names: impl Iterator<Item = &'a String>,
    ) -> impl Iterator<Item = &'a PrefetchPod> {
        let mut id = (key.clone(), String::new());
        names.filter_map(move |name| {
            id.1.clone_from(name);
            self.table.current.get(&id)
        })
    }

    /// Shares equal lists; forgets those that no pod has any more when there are many.
    fn share(&mut self, images: Vec<Option<ImageRef>>) -> Arc<[Option<ImageRef>]> {
        const MANY: usize = 256;
        if let Some(known) = self.images.get(images.as_slice()) {
            return known.clone();
        }
        if self.images.len() >= MANY && self.images.len().is_power_of_two() {
            self.images.retain(|images| Arc::strong_count(images) > 1);
        }
        let images: Arc<[Option<ImageRef>]> = images.into();
        self.images.insert(images.clone());
        images
    }

    fn forget(&mut self, key: &DeploymentKey, node: &Arc<str>, name: &str) {
        let Some(nodes) = self.places.get_mut(key) else {
            return;
        };
        if let Some(names) = nodes.get_mut(node) {
            names.remove(name);
            if names.is_empty() {
                nodes.remove(node);
            }
        }
        if nodes.is_empty() {
            self.places.remove(key);
        }
    }
}

impl Cluster {
    /// What a pod is known by; `None` for one that is not headstart's. The watch selects by label, and anyone who may label a pod
    /// could have it deleted: so the pod's shape decides, and nothing in an exempt namespace is looked at.
    fn id_of(&self, pod: &Pod) -> Option<(DeploymentKey, String)> {
        id_of(pod).filter(|(key, _)| {
            is_prefetch_pod(pod) && !is_exempt(&key.namespace, &self.own_namespace)
        })
    }

    pub(super) fn on_pod(&self, scope: &Scope, change: Change<Pod>) {
        let mut state = self.lock();
        match change {
            Change::Begin => state.pods.table.begin_list(scope),
            Change::Put(pod) => {
                let Some(id) = self.id_of(&pod) else { return };
                let images = state.pods.share(images_of(&pod));
                let node = node_of(&pod).unwrap_or_default();
                let node = state.node_name(node);
                let pod = read(&pod, &id.1, node, images, &self.noop_image);
                let place = Place {
                    key: id.0.clone(),
                    node: pod.node.clone(),
                };
                let before = state.pods.table.put(scope, id.clone(), pod.clone());
                if before.as_ref() == Some(&pod) {
                    return;
                }
                let nodes = state.pods.places.entry(id.0).or_default();
                nodes.entry(pod.node).or_default().insert(id.1);
                self.places.push(place);
            }
            Change::Remove(pod) => {
                let Some(id) = self.id_of(&pod) else { return };
                if let Some(pod) = state.pods.table.remove(&id) {
                    state.pods.forget(&id.0, &pod.node, &id.1);
                    let (key, node) = (id.0, pod.node);
                    self.places.push(Place { key, node });
                }
            }
            Change::End => {
                let covered = |id: &(DeploymentKey, String)| covers(scope, &id.0.namespace);
                for ((key, name), pod) in state.pods.table.end_list(scope, covered) {
                    state.pods.forget(&key, &pod.node, &name);
                    let node = pod.node;
                    self.places.push(Place { key, node });
                }
            }
        }
    }
}

fn read(
    pod: &Pod,
    name: &str,
    node: Arc<str>,
    images: Arc<[Option<ImageRef>]>,
    noop_image: &str,
) -> PrefetchPod {
    let metadata = &pod.metadata;
    let label = |key| metadata.labels.as_ref()?.get(key).map(String::as_str);
    let owners = metadata.owner_references.iter().flatten();
    PrefetchPod {
        name: name.to_owned(),
        uid: metadata.uid.clone().unwrap_or_default(),
        node,
        owner: owners
            .filter(|owner| owner.kind == "Deployment")
            .map(|owner| owner.uid.clone())
            .next(),
        revision: label(REVISION_LABEL).unwrap_or_default().into(),
        images,
        outcome: status::summarize(pod, noop_image),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        deleting: metadata.deletion_timestamp.is_some(),
    }
}

/// The images that a prefetch pod pulls: those its containers mount, or run.
fn images_of(pod: &Pod) -> Vec<Option<ImageRef>> {
    let Some(spec) = pod.spec.as_ref() else {
        return Vec::new();
    };
    let mounted = |name: &str| {
        let mut volumes = spec.volumes.iter().flatten();
        let volume = volumes.find(|volume| volume.name == name)?;
        volume.image.as_ref()?.reference.as_deref()
    };
    let containers = spec.containers.iter();
    containers
        .map(|container| {
            let image = mounted(&container.name).or(container.image.as_deref())?;
            image.parse().ok()
        })
        .collect()
}

/// The Deployment that a prefetch pod belongs to, and the pod's name. The owner says so; a pod that was orphaned
/// has only its label.
fn id_of(pod: &Pod) -> Option<(DeploymentKey, String)> {
    let metadata = &pod.metadata;
    let owner = metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == "Deployment");
    let label = || metadata.labels.as_ref()?.get(DEPLOYMENT_LABEL).cloned();
    let name = owner.map(|owner| owner.name.clone()).or_else(label)?;
    Some((
        DeploymentKey {
            namespace: metadata.namespace.clone()?,
            name,
        },
        metadata.name.clone()?,
    ))
}
