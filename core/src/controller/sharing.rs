//! Pulls that Deployments of a namespace share: images that one brings to a node are not pulled there for another.
//!
//! Two prefetches share a pull if they want the same image in the same namespace on the same terms: the same pull secrets,
//! runtime class and tolerations. Nothing is shared between namespaces, because each has credentials, quota and failures of its
//! own; but the second waits on a node until the first is done, and then finds the image.
//!
//! The pod belongs to the Deployment that was first, the leader. The others follow it: they read its status as if it were
//! theirs, and make a pod of their own if it ends without their images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::image::ImageRef;
use crate::store::DeploymentNode;
use crate::workload::{DeploymentKey, Workload};

/// The Deployments that want an image.
type Wanting = BTreeMap<ImageRef, BTreeSet<DeploymentKey>>;

/// The Deployments that want the same images, and those that wait for the pod of another.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// The prefetches that want an image, by namespace. An image that is pulled each time is not shared.
    by_image: BTreeMap<String, Wanting>,
    /// The Deployments that follow the pull of a leader on a node.
    followers: BTreeMap<DeploymentNode, BTreeSet<DeploymentKey>>,
    /// The nodes of followers that a change of their leader wakes.
    waiting: BTreeSet<DeploymentNode>,
    /// Those that are to be looked at.
    awake: BTreeSet<DeploymentNode>,
}

impl Sharing {
    /// Adds the images of a prefetch.
    pub(super) fn add(&mut self, workload: &Workload) {
        let key = &workload.key;
        let wanting = self.by_image.entry(key.namespace.clone()).or_default();
        for image in workload.images.iter().filter(|image| !image.always) {
            let keys = wanting.entry(image.reference.clone()).or_default();
            keys.insert(key.clone());
        }
    }

    /// Removes the images of a prefetch. Those that follow it are woken.
    pub(super) fn remove(&mut self, workload: &Workload) {
        let key = &workload.key;
        if let Some(wanting) = self.by_image.get_mut(&key.namespace) {
            for image in &workload.images {
                if let Some(keys) = wanting.get_mut(&image.reference) {
                    keys.remove(key);
                    if keys.is_empty() {
                        wanting.remove(&image.reference);
                    }
                }
            }
            if wanting.is_empty() {
                self.by_image.remove(&key.namespace);
            }
        }
        self.wake_all(key);
    }

    /// Returns the other Deployments of the namespace that want some of the same images.
    pub(super) fn others(&self, workload: &Workload) -> BTreeSet<&DeploymentKey> {
        let wanting = self.by_image.get(&workload.key.namespace);
        let images = workload.images.iter();
        let keys = images.filter_map(|image| wanting?.get(&image.reference));
        keys.filter(|keys| keys.len() > 1)
            .flatten()
            .filter(|key| **key != workload.key)
            .collect()
    }

    /// Returns the prefetches of all namespaces that want an image.
    pub(super) fn wanting(&self, image: &ImageRef) -> impl Iterator<Item = &DeploymentKey> {
        let namespaces = self.by_image.values();
        namespaces
            .filter_map(move |images| images.get(image))
            .flatten()
    }

    /// Has a node of a Deployment wait for the pull of another.
    pub(super) fn follow(&mut self, at: &DeploymentNode, leader: &DeploymentKey) {
        let leader = DeploymentNode {
            key: leader.clone(),
            node: at.node.clone(),
        };
        let followers = self.followers.entry(leader).or_default();
        followers.insert(at.key.clone());
        self.waiting.insert(at.clone());
    }

    /// Wakes the Deployments that follow a pull.
    pub(super) fn wake(&mut self, leader: &DeploymentNode) {
        for key in self.followers.remove(leader).unwrap_or_default() {
            let node = leader.node.clone();
            let at = DeploymentNode { key, node };
            self.waiting.remove(&at);
            self.awake.insert(at);
        }
    }

    /// Has a node be looked at that waits for the pull of another.
    pub(super) fn look_at(&mut self, at: DeploymentNode) {
        if self.waiting.remove(&at) {
            self.awake.insert(at);
        }
    }

    /// Wakes the Deployments that follow a pull of this one, on any node.
    pub(super) fn wake_all(&mut self, key: &DeploymentKey) {
        let first = DeploymentNode {
            key: key.clone(),
            node: Arc::default(),
        };
        let leaders = self.followers.range(first..);
        let leaders = leaders.map(|(leader, _)| leader.clone());
        let leaders: Vec<DeploymentNode> = leaders.take_while(|at| at.key == *key).collect();
        for leader in leaders {
            self.wake(&leader);
        }
    }

    /// Forgets a node that is gone.
    pub(super) fn forget_node(&mut self, node: &str) {
        self.followers.retain(|leader, _| *leader.node != *node);
        self.waiting.retain(|at| *at.node != *node);
    }

    /// Returns whether a change of another pull wakes a node.
    pub(super) fn is_waiting(&self, at: &DeploymentNode) -> bool {
        self.waiting.contains(at) || self.awake.contains(at)
    }

    /// Returns the next follower that is to be looked at.
    pub(super) fn pop_awake(&mut self) -> Option<DeploymentNode> {
        self.awake.pop_first()
    }

    /// Returns whether no follower is to be looked at.
    pub(super) fn is_quiet(&self) -> bool {
        self.awake.is_empty()
    }
}
