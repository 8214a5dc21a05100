//! Creates that the watch has not caught up with. As in Kubernetes' own controllers, nothing is decided where one is
//! expected: what the cache shows is older than what was done, and a second pod would be made for the same images.

use std::time::Duration;

use tokio::time::Instant;

use super::desk::{Desk, Wake};
use super::spots::Stage;
use crate::cluster::{Place, PrefetchPod};

/// How long a pod that was created may stay unseen before its node is judged anew: a watch that was cut shows it
/// within its own back-off, and then there is nothing left to show it.
const UNSEEN: Duration = Duration::from_secs(60);

/// A create on its way, or a pod that the watch has not shown yet.
#[derive(Debug)]
pub(super) struct Expectation {
    /// The pod's name.
    name: String,
    /// The UID of the pod by the same name that goes first.
    replaces: Option<String>,
    /// The UID that it got, unless it was there already; and when that was known.
    stored: Option<(Option<String>, Instant)>,
}

impl Expectation {
    pub(super) fn new(name: String, replaces: Option<String>) -> Self {
        Self {
            name,
            replaces,
            stored: None,
        }
    }

    /// Whether its create is still to be answered.
    pub(super) fn is_open(&self) -> bool {
        self.stored.is_none()
    }

    /// How long after the answer the pod was seen, if it is among these.
    fn seen_after(&self, pods: &[PrefetchPod]) -> Option<Duration> {
        let (uid, since) = self.stored.as_ref()?;
        let is_it = |pod: &PrefetchPod| match uid {
            Some(uid) => pod.uid == *uid,
            None => pod.name == self.name && Some(&pod.uid) != self.replaces.as_ref(),
        };
        pods.iter().any(is_it).then(|| since.elapsed())
    }

    fn is_overdue(&self) -> bool {
        let stored = self.stored.as_ref();
        stored.is_some_and(|(_, since)| since.elapsed() >= UNSEEN)
    }
}

impl Desk {
    /// A pod is stored: the watch is to show it.
    pub(super) fn expect_to_see(&mut self, place: &Place, uid: Option<String>) {
        let now = Instant::now();
        if let Some(expectation) = self.expected.get_mut(place) {
            expectation.stored = Some((uid, now));
            self.wake_at(now + UNSEEN, Wake::Unseen(place.clone()));
        }
    }

    /// Whether the cache is as new as what was done here, and whether that has become so only now.
    pub(super) fn caught_up(&mut self, place: &Place, pods: &[PrefetchPod]) -> CaughtUp {
        let Some(expectation) = self.expected.get(place) else {
            return CaughtUp::Long;
        };
        let Some(lag) = expectation.seen_after(pods) else {
            return CaughtUp::NotYet;
        };
        self.worker.metrics.watch_lag(lag);
        self.expected.remove(place);
        CaughtUp::Now
    }

    /// The watch should have shown a pod by now.
    pub(super) fn on_unseen(&mut self, place: &Place) {
        if self
            .expected
            .get(place)
            .is_some_and(Expectation::is_overdue)
        {
            self.expected.remove(place);
            let pods = self.worker.cluster.pods_at(&place.key, &place.node);
            self.decide(place, &pods, CaughtUp::Now);
        }
    }

    /// Nothing was stored: whoever waited for that may go on.
    pub(super) fn expect_nothing(&mut self, place: &Place) {
        self.expected.remove(place);
        self.free(place);
        if self.stage(place) == Some(Stage::Waiting) {
            self.line_up(place);
        }
    }
}

/// Whether the cache is as new as what was done at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaughtUp {
    /// A pod is still to show.
    NotYet,
    /// It has just shown.
    Now,
    /// Nothing was expected.
    Long,
}
