//! Gauges of what is still to be done, and the durations of holds.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use headstart_core::controller::Stats;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Metrics;
use super::labels::HoldEndLabel;

/// Gauges of what is still to be done, and the durations of holds.
pub(super) struct QueueMetrics {
    queue_depth: Gauge,
    queue_oldest: Gauge<f64, AtomicU64>,
    places: Gauge,
    pulling: Gauge,
    held: Gauge,
    held_seconds: Family<HoldEndLabel, Histogram, fn() -> Histogram>,
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
        let held = Gauge::default();
        registry.register(
            "held_deployments",
            "Deployments whose rollout waits for its images",
            held.clone(),
        );
        // From a second, images that were almost there, to an hour, the longest anyone would wait.
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
            held,
            held_seconds,
        }
    }
}

impl Metrics {
    /// Sets the gauges of what is still to be done.
    pub(crate) fn set_queue_stats(&self, stats: Stats) {
        let Stats {
            deployments,
            oldest,
            nodes,
            pulling,
            held,
            creates: _,
        } = stats;
        let gauge = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.queue.queue_depth, deployments);
        gauge(&self.queue.places, nodes);
        gauge(&self.queue.pulling, pulling);
        gauge(&self.queue.held, held);
        self.queue.queue_oldest.set(oldest.as_secs_f64());
    }

    /// A rollout waits no longer.
    pub fn hold_ended(&self, reason: &'static str, after: Duration) {
        self.queue
            .held_seconds
            .get_or_create(&HoldEndLabel { reason })
            .observe(after.as_secs_f64());
    }
}
