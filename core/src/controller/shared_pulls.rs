//! Finds the pulls of other Deployments that bring images to a node.

use std::sync::Arc;

use super::prefetch::Prefetch;
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::turn::Turn;
use crate::image::Image;
use crate::store::{DeploymentNode, PrefetchPod};
use crate::workload::{DeploymentKey, Workload};

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

/// Returns whether a Deployment of any namespace has brought an image to a node.
fn is_there(pulls: &Pulls, node: &str, image: &Image) -> bool {
    let mut wanting = pulls.sharing.wanting(&image.reference);
    wanting.any(|key| {
        let prefetch = pulls.prefetches.get(key);
        let pull = prefetch.and_then(|prefetch| prefetch.nodes.get(node));
        pull.is_some_and(|pull| pull.state() == PullState::Present)
    })
}

/// Has a node wait for a pull of one of these images in another namespace. Returns whether there is one. Images that are there are
/// not waited for: their pods find them.
pub(super) fn wait_for_other_namespace(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    images: &[usize],
) -> bool {
    let Some(prefetch) = pulls.prefetches.get(&at.key) else {
        return false;
    };
    let all = &prefetch.workload.images;
    let lacking: Vec<&Image> = images.iter().filter_map(|index| all.get(*index)).collect();
    let brings_some = |other: &Prefetch| {
        let mut shared = lacking.iter().filter(|image| !image.always);
        shared.any(|image| {
            let mut theirs = other.workload.images.iter();
            theirs.any(|their| their.reference == image.reference)
        })
    };
    let first = pulls.pulling_on(&at.node).find(|key| {
        let other = pulls.prefetches.get(*key);
        key.namespace != at.key.namespace && other.is_some_and(brings_some)
    });
    let Some(first) = first.cloned() else {
        return false;
    };
    let mut lacking = lacking.into_iter();
    if lacking.all(|image| is_there(pulls, &at.node, image)) {
        return false;
    }
    pulls.sharing.follow(at, &first);
    true
}
