//! Creates that the watch has not caught up with.
//!
//! As in Kubernetes' own controllers, nothing is decided for a node while a created pod is not visible there: the store is
//! older than the create, and a second pod would be made for the same images.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::store::{DeploymentNode, NodeName, PrefetchPod};
use crate::time::Instant;
use crate::workload::{DeploymentKey, Workload};

/// The time for which a created pod may stay invisible. After it the node is judged without the pod. A watch that was
/// cut shows the pod within its own back-off; after that there is nothing left to show.
pub(super) const EXPECTATION_TIMEOUT: Duration = Duration::from_secs(60);

/// A create in flight, or a created pod that is not visible yet.
#[derive(Debug)]
struct Expectation {
    /// The name of the pod.
    name: String,
    /// The UID of the pod by the same name that is deleted first.
    replaces: Option<String>,
    /// The Deployment with the images that the pod brings.
    images: Arc<Workload>,
    /// The UID of the created pod, `None` if the pod existed, and the time at which the create was answered.
    created: Option<(Option<String>, Instant)>,
}

/// The state of the store for one node, compared with this controller's own creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheState {
    /// A created pod is not visible yet.
    Stale,
    /// A created pod has just become visible, so long after its create was answered; `None` if it was given up.
    JustSynced(Option<Duration>),
    /// Nothing is expected.
    Synced,
}

/// All expectations.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    by_node: BTreeMap<DeploymentNode, Expectation>,
}

impl Expectations {
    /// Expects a pod whose create is about to be sent.
    pub(super) fn expect_pod(
        &mut self,
        at: &DeploymentNode,
        name: String,
        replaces: Option<String>,
        images: Arc<Workload>,
    ) {
        let expectation = Expectation {
            name,
            replaces,
            images,
            created: None,
        };
        self.by_node.insert(at.clone(), expectation);
    }

    /// Records the answer to a create. Returns when the expectation times out, if there is one.
    pub(super) fn observed_create(
        &mut self,
        at: &DeploymentNode,
        uid: Option<String>,
        now: Instant,
    ) -> Option<Instant> {
        let expectation = self.by_node.get_mut(at)?;
        expectation.created = Some((uid, now));
        Some(now + EXPECTATION_TIMEOUT)
    }

    /// Compares the store with this controller's own creates: `Stale` until the created pod is visible, `JustSynced`
    /// once, then `Synced`.
    pub(super) fn cache_state(
        &mut self,
        at: &DeploymentNode,
        pods: &[&PrefetchPod],
        now: Instant,
    ) -> CacheState {
        let Some(expectation) = self.by_node.get(at) else {
            return CacheState::Synced;
        };
        let Some(lag) = expectation.lag(pods, now) else {
            return CacheState::Stale;
        };
        self.by_node.remove(at);
        CacheState::JustSynced(Some(lag))
    }

    /// Returns whether the pod of a create that is not answered is visible: the create was done.
    pub(super) fn is_visible(&self, at: &DeploymentNode, pods: &[&PrefetchPod]) -> bool {
        let expectation = self.by_node.get(at);
        expectation.is_some_and(|expectation| pods.iter().any(|pod| expectation.is_named(pod)))
    }

    /// Removes the expectation of a pod that should be visible by now. Returns whether there was one.
    pub(super) fn on_timeout(&mut self, at: &DeploymentNode, now: Instant) -> bool {
        let overdue = |expectation: &Expectation| {
            let created = expectation.created.as_ref();
            created.is_some_and(|(_, since)| now.duration_since(*since) >= EXPECTATION_TIMEOUT)
        };
        let overdue = self.by_node.get(at).is_some_and(overdue);
        if overdue {
            self.by_node.remove(at);
        }
        overdue
    }

    /// Removes an expectation: no pod was created.
    pub(super) fn clear_expectation(&mut self, at: &DeploymentNode) {
        self.by_node.remove(at);
    }

    /// Returns the Deployment with the images of the pod that is expected on a node.
    pub(super) fn images(&self, at: &DeploymentNode) -> Option<&Arc<Workload>> {
        self.by_node.get(at).map(|expectation| &expectation.images)
    }

    /// Returns whether a pod is expected on a node.
    pub(super) fn contains(&self, at: &DeploymentNode) -> bool {
        self.by_node.contains_key(at)
    }

    /// Returns whether a create is in flight for a node.
    pub(super) fn is_create_in_flight(&self, at: &DeploymentNode) -> bool {
        let expectation = self.by_node.get(at);
        expectation.is_some_and(|expectation| expectation.created.is_none())
    }

    /// Returns how many pods are expected in a namespace.
    pub(super) fn count_in(&self, namespace: &str) -> u64 {
        let first = DeploymentNode {
            key: DeploymentKey {
                namespace: namespace.to_owned(),
                name: String::new(),
            },
            node: NodeName::default(),
        };
        let expected = self.by_node.range(first..);
        let expected = expected.take_while(|(at, _)| at.key.namespace == namespace);
        u64::try_from(expected.count()).unwrap_or(u64::MAX)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &DeploymentNode> {
        self.by_node.keys()
    }
}

impl Expectation {
    /// Returns whether a pod has the name that is expected, and is not the one that is replaced.
    fn is_named(&self, pod: &PrefetchPod) -> bool {
        pod.name == self.name && Some(&pod.uid) != self.replaces.as_ref()
    }

    /// Returns how long after the answer the pod became visible, if it is among these.
    fn lag(&self, pods: &[&PrefetchPod], now: Instant) -> Option<Duration> {
        let (uid, since) = self.created.as_ref()?;
        let is_it = |pod: &&PrefetchPod| match uid {
            Some(uid) => pod.uid == *uid,
            None => self.is_named(pod),
        };
        let visible = pods.iter().any(is_it);
        visible.then(|| now.duration_since(*since))
    }
}
