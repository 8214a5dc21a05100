//! Decides, when a write is admitted, whether its rollout waits.

use std::sync::Arc;

use k8s_openapi::jiff::{Timestamp, Unit};

use crate::cluster::Cluster;
use crate::self_test::Permit;
use headstart_core::api::annotations::HOLD_TIMEOUT;
use headstart_core::hold::{HoldDecision, HoldLimits, ImagePresence, decide};
use headstart_core::pod::PodSettings;
use headstart_core::workload::Workload;

/// Decides with what every replica has in its caches.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Which images are where.
    pub cluster: Arc<Cluster>,
    /// How images are prefetched, and so where.
    pub settings: Arc<PodSettings>,
    /// How long holds last at most.
    pub limits: HoldLimits,
    /// The namespaces that are looked at; none for all. A hold elsewhere would be seen by nobody.
    pub namespaces: Arc<[String]>,
    /// Without it nothing is held: the images would not come.
    pub permit: Permit,
}

impl Gate {
    /// Decides what a write that changes images does, in mode hold. `lands_alike` says that the pods of both may land on the
    /// same nodes.
    pub fn admit(&self, new: &Workload, old: Option<&Workload>, lands_alike: bool) -> HoldDecision {
        let watched = self.namespaces.is_empty() || self.namespaces.contains(&new.key.namespace);
        if !watched || !self.permit.is_granted() {
            return HoldDecision::Unchanged;
        }
        let stock = if lands_alike {
            self.stock(new)
        } else {
            ImagePresence::Unknown
        };
        // People read the marks, in seconds.
        let now = Timestamp::now().round(Unit::Second);
        let now = now.unwrap_or_else(|_| Timestamp::now());
        decide(new, old, stock, self.limits, now)
    }

    /// A review is read for images only; where they go is what the stored object says.
    fn stock(&self, new: &Workload) -> ImagePresence {
        let stored = self.cluster.stored(&new.key);
        // Of one that is too large is not known where its pods may land.
        let Some((stored, _)) = stored.filter(|(stored, _)| stored.too_large.is_none()) else {
            return ImagePresence::Unknown;
        };
        let wanted = Workload {
            images: new.images.clone(),
            image_set: new.image_set.clone(),
            annotations: new.annotations.clone(),
            ..Workload::clone(&stored)
        };
        self.cluster.stock(&wanted, &self.settings)
    }

    /// What the person who writes is told.
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
