//! Counts of prefetches, their pods and their images.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::labels::{OutcomeLabel, PodLabel};

/// Counts of prefetches, their pods and their images.
pub(super) struct PrefetchMetrics {
    pub(super) plans: Counter,
    pub(super) pods_created: Counter,
    pub(super) pods_deleted: Counter,
    pub(super) pods_decided: Family<PodLabel, Counter>,
    pub(super) images: Family<OutcomeLabel, Counter>,
    pub(super) warm_seconds: Histogram,
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
