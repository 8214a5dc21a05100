//! Gauges of the pending work, and the durations of holds.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::labels::HoldEndLabel;

/// Gauges of the pending work, and the durations of holds.
pub(super) struct QueueMetrics {
    pub(super) queue_depth: Gauge,
    pub(super) queue_oldest: Gauge<f64, AtomicU64>,
    pub(super) places: Gauge,
    pub(super) pulling: Gauge,
    pub(super) creates: Gauge,
    pub(super) held: Gauge,
    pub(super) resumes_failing: Gauge,
    pub(super) held_seconds: Family<HoldEndLabel, Histogram, fn() -> Histogram>,
}

impl QueueMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let queue_depth = Gauge::default();
        registry.register(
            "queue_depth",
            "Deployments whose prefetch is not decided on every node",
            queue_depth.clone(),
        );
        let queue_oldest = Gauge::default();
        registry.register(
            "queue_oldest_seconds",
            "How long the oldest of them has not been",
            queue_oldest.clone(),
        );
        let places = Gauge::default();
        registry.register(
            "queue_nodes",
            "Nodes that are not decided, counted for each Deployment",
            places.clone(),
        );
        let pulling = Gauge::default();
        registry.register(
            "pulling_nodes",
            "Nodes on which a prefetch pod pulls",
            pulling.clone(),
        );
        let creates = Gauge::default();
        registry.register(
            "creates_in_flight",
            "Creates of prefetch pods that are not finished",
            creates.clone(),
        );
        let held = Gauge::default();
        registry.register(
            "held_deployments",
            "Deployments whose rollout waits for its images",
            held.clone(),
        );
        let resumes_failing = Gauge::default();
        registry.register(
            "resumes_failing",
            "1 while rollouts whose hold is over cannot be resumed, and so none is held",
            resumes_failing.clone(),
        );
        // From a second, for images that were almost present, to an hour, the longest useful wait.
        let held_seconds = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(1.0, 2.0, 13))) as fn() -> Histogram,
        );
        registry.register(
            "hold_seconds",
            "How long rollouts waited, by what ended that",
            held_seconds.clone(),
        );
        Self {
            queue_depth,
            queue_oldest,
            places,
            pulling,
            creates,
            held,
            resumes_failing,
            held_seconds,
        }
    }
}
