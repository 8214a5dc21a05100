//! Counts of prefetches, their pods and their images.

use std::time::Duration;

use headstart_core::pod::status::{ImageStatus, PodStatusSummary};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Metrics;
use super::labels::{OutcomeLabel, PodLabel};

/// Counts of prefetches, their pods and their images.
pub(super) struct PrefetchMetrics {
    plans: Counter,
    pods_created: Counter,
    pods_deleted: Counter,
    pods_decided: Family<PodLabel, Counter>,
    images: Family<OutcomeLabel, Counter>,
    warm_seconds: Histogram,
}

impl PrefetchMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let plans = Counter::default();
        registry.register(
            "plans",
            "Prefetches planned, one per Deployment and set of images",
            plans.clone(),
        );
        let pods_created = Counter::default();
        registry.register(
            "prefetch_pods_created",
            "Prefetch pods created",
            pods_created.clone(),
        );
        let pods_deleted = Counter::default();
        registry.register(
            "prefetch_pods_deleted",
            "Prefetch pods deleted",
            pods_deleted.clone(),
        );
        let pods_decided = Family::default();
        registry.register(
            "prefetch_pods_decided",
            "Prefetch pods by what came of them, and why",
            pods_decided.clone(),
        );
        let images = Family::default();
        registry.register(
            "prefetched_images",
            "Images decided on a node, by outcome",
            images.clone(),
        );
        // From half a second, a small image on a warm connection, to a quarter of an hour.
        let warm_seconds = Histogram::new(exponential_buckets(0.5, 2.0, 12));
        registry.register(
            "admission_to_pulled_seconds",
            "Time from the admission, or from when its change was first seen, to all images on one node",
            warm_seconds.clone(),
        );
        Self {
            plans,
            pods_created,
            pods_deleted,
            pods_decided,
            images,
            warm_seconds,
        }
    }
}

impl Metrics {
    /// A prefetch was planned.
    pub fn prefetch_planned(&self) {
        self.prefetch.plans.inc();
    }

    /// A prefetch pod was created.
    pub fn pod_created(&self) {
        self.prefetch.pods_created.inc();
    }

    /// A prefetch pod was deleted.
    pub fn pod_deleted(&self) {
        self.prefetch.pods_deleted.inc();
    }

    /// An image was decided on a node.
    pub fn image(&self, outcome: &str) {
        self.prefetch
            .images
            .get_or_create(&OutcomeLabel {
                outcome: outcome.to_owned(),
            })
            .inc();
    }

    /// It is known what came of a pod: what is worst about its images.
    pub fn pod_decided(&self, pod: &PodStatusSummary) {
        let mut label = PodLabel {
            outcome: "Pulled",
            reason: "",
        };
        for image in &pod.images {
            let (outcome, reason) = match image {
                ImageStatus::Pulled => ("Pulled", ""),
                ImageStatus::Pending => ("Pending", ""),
                ImageStatus::Failed(failure) => ("Failed", failure.kind.reason()),
                ImageStatus::Rejected(failure) => ("Rejected", failure.kind.reason()),
            };
            self.image(if reason.is_empty() { outcome } else { reason });
            if label.reason.is_empty() && outcome != "Pulled" {
                label = PodLabel { outcome, reason };
            }
        }
        self.prefetch.pods_decided.get_or_create(&label).inc();
    }

    /// A node has all images of a Deployment.
    pub fn node_pulled(&self, after: Duration) {
        self.prefetch.warm_seconds.observe(after.as_secs_f64());
    }
}
