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

use super::pull::sync_node;
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::turn::Turn;
use crate::image::ImageRef;
use crate::store::{DeploymentNode, PrefetchPod};
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

/// What others bring to a node for a Deployment.
#[derive(Debug, Default)]
pub(super) struct SharedPulls<'a> {
    /// Pods of other Deployments.
    pub(super) pods: Vec<&'a PrefetchPod>,
    /// The images of pods whose creates the watch has not caught up with.
    expected: Vec<Arc<Workload>>,
    /// The Deployments whose pulls are not done.
    leaders: Vec<DeploymentKey>,
}

impl SharedPulls<'_> {
    /// Returns those of the images that no pod that is being created brings.
    pub(super) fn without_expected(
        &self,
        workload: &Workload,
        mut images: Vec<usize>,
    ) -> Vec<usize> {
        let expected = || self.expected.iter().flat_map(|set| &set.images);
        images.retain(|index| {
            workload.images.get(*index).is_none_or(|image| {
                image.always || !expected().any(|coming| coming.reference == image.reference)
            })
        });
        images
    }
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
    fn others(&self, workload: &Workload) -> BTreeSet<&DeploymentKey> {
        let wanting = self.by_image.get(&workload.key.namespace);
        let images = workload.images.iter();
        let keys = images.filter_map(|image| wanting?.get(&image.reference));
        keys.filter(|keys| keys.len() > 1)
            .flatten()
            .filter(|key| **key != workload.key)
            .collect()
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

    /// Returns whether no follower is to be looked at.
    pub(super) fn is_quiet(&self) -> bool {
        self.awake.is_empty()
    }
}

/// Returns what other Deployments bring to a node. Until its own pull secrets are known, a prefetch shares nothing.
pub(super) fn shared_pulls<'a>(
    pulls: &Pulls,
    at: &DeploymentNode,
    turn: &Turn<'a>,
) -> SharedPulls<'a> {
    let mut shared = SharedPulls::default();
    let Some(prefetch) = pulls.prefetches.get(&at.key) else {
        return shared;
    };
    let run_as = turn.config.pods.run_as;
    for key in pulls.sharing.others(&prefetch.workload) {
        let other = pulls.prefetches.get(key);
        let Some(other) = other.filter(|other| prefetch.pulls_on_same_terms(other, run_as)) else {
            continue;
        };
        let leader = DeploymentNode {
            key: key.clone(),
            node: at.node.clone(),
        };
        let expected = pulls.expectations.images(&leader);
        let mut pulling = expected.is_some();
        shared.expected.extend(expected.cloned());
        for pod in turn.store.pods_on_node(key, &at.node) {
            if pod.owner.as_deref() == Some(&*other.workload.uid) {
                pulling |= pod.outcome.ended.is_none();
                shared.pods.push(pod);
            }
        }
        if pulling {
            shared.leaders.push(leader.key);
        }
    }
    shared
}

/// Has a node be looked at again when a pull that it may profit from changes.
pub(super) fn follow(pulls: &mut Pulls, at: &DeploymentNode, shared: &SharedPulls<'_>) {
    for leader in &shared.leaders {
        pulls.sharing.follow(at, leader);
    }
}

/// Has a node wait for a pull of one of these images in another namespace. Returns whether there is one.
pub(super) fn wait_for_other_namespace(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    images: &[usize],
) -> bool {
    let Some(prefetch) = pulls.prefetches.get(&at.key) else {
        return false;
    };
    let wanted = |of: &Workload| {
        let mine = images
            .iter()
            .filter_map(|index| prefetch.workload.images.get(*index));
        let mut mine = mine.filter(|image| !image.always);
        mine.any(|image| {
            of.images
                .iter()
                .any(|theirs| theirs.reference == image.reference)
        })
    };
    let first = pulls.pulling_on(&at.node).find(|key| {
        let other = pulls.prefetches.get(*key);
        key.namespace != at.key.namespace && other.is_some_and(|other| wanted(&other.workload))
    });
    let Some(first) = first.cloned() else {
        return false;
    };
    pulls.sharing.follow(at, &first);
    true
}

/// Looks at the followers of pulls that have changed.
pub(super) fn sync_followers(pulls: &mut Pulls, turn: &mut Turn<'_>) {
    while let Some(at) = pulls.sharing.awake.pop_first() {
        match pulls.state(&at) {
            Some(PullState::Pending) => pulls.enqueue(&at),
            Some(_) => sync_node(pulls, &at, turn),
            None => {}
        }
    }
}
