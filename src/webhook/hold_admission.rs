//! Decides, when a write is admitted, whether its rollout is held.

use std::sync::Arc;

use k8s_openapi::jiff::{Timestamp, Unit};
use tokio::time::Instant;

use crate::hold_gate::HoldGate;
use crate::self_test::Permit;
use crate::watch::SharedStore;
use headstart_core::api::annotations::HOLD_TIMEOUT;
use headstart_core::hold::{HoldDecision, HoldLimits, ImagePresence, decide};
use headstart_core::image_presence;
use headstart_core::pod::PodSettings;
use headstart_core::workload::Workload;

/// The decision about holds, from the store that every replica has.
#[derive(Clone, Debug)]
pub struct HoldAdmission {
    /// The store, with the images on the nodes.
    pub store: Arc<SharedStore>,
    /// The settings of prefetch pods, on which the choice of nodes depends.
    pub settings: Arc<PodSettings>,
    /// The limits for the duration of holds.
    pub limits: HoldLimits,
    /// The namespaces that are watched; none for all. A hold elsewhere would never end.
    pub namespaces: Arc<[String]>,
    /// The permission to create pods. Nothing is held without it, because nothing would be prefetched.
    pub permit: Permit,
    /// The gate for holds. Nothing is held while it is closed, because a leader might not resume the rollout.
    pub gate: HoldGate,
}

impl HoldAdmission {
    /// Returns the effect of a write that changes images, in mode hold. `lands_alike` is true if the pods of both may land on
    /// the same nodes; `names_pause`, if another client owns `spec.paused` or shows in another way that it pauses.
    pub fn decide(
        &self,
        new: &Workload,
        old: Option<&Workload>,
        lands_alike: bool,
        names_pause: bool,
    ) -> HoldDecision {
        let watched = self.namespaces.is_empty() || self.namespaces.contains(&new.key.namespace);
        if !watched {
            return HoldDecision::Unchanged;
        }
        let stock = if lands_alike {
            self.presence(new)
        } else {
            ImagePresence::Unknown
        };
        // Users read the marks: whole seconds are enough.
        let now = Timestamp::now().round(Unit::Second);
        let now = now.unwrap_or_else(|_| Timestamp::now());
        let decision = decide(new, old, names_pause, stock, self.limits, now);
        let was_held = old
            .and_then(|old| old.state.held)
            .is_some_and(|held| held.paused);
        let closed = self.gate.closed(self.permit.is_granted(), Instant::now());
        decision.with_gate(was_held, closed)
    }

    /// The store is locked for lookups only: the nodes are a snapshot.
    fn presence(&self, new: &Workload) -> ImagePresence {
        if !self.store.is_synced() {
            return ImagePresence::Unknown;
        }
        let (stored, nodes) = {
            let store = self.store.read();
            let stored = store.get(&new.key).map(|(stored, _)| stored.clone());
            (stored, store.node_snapshot())
        };
        let Some(stored) = stored else {
            return ImagePresence::Unknown;
        };
        let pods_on = |node: &str| {
            let store = self.store.read();
            let pods = store.pods_on_node(&new.key, node);
            pods.into_iter().cloned().collect()
        };
        image_presence(new, &stored, &nodes, pods_on, &self.settings)
    }

    /// The warning for a client that names `spec.paused` without pausing.
    pub const PAUSE_NAMED: &str = "headstart: the rollout is not held: a manifest or another controller sets spec.paused, and the hold would look like \
         its pause; leave paused out of the manifest";

    /// Returns the warning for the client that writes.
    pub fn warning(&self, new: &Workload, until: Timestamp) -> String {
        let asked = new.annotations.hold_timeout.as_ref();
        match asked.filter(|asked| asked.0 > self.limits.max) {
            Some(_) => format!(
                "headstart: held, at most until {until}: {HOLD_TIMEOUT} is above the limit of {:#}",
                self.limits.max
            ),
            None => format!(
                "headstart: the rollout is held until its images are on the nodes, at most until {until}"
            ),
        }
    }
}
