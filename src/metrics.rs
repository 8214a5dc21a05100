//! What headstart counts, under names by Prometheus convention.

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

mod admission;
mod api;
mod labels;
mod prefetch;
mod queue;
mod replica;
#[cfg(test)]
mod tests;

use admission::AdmissionMetrics;
use api::ApiMetrics;
pub(crate) use labels::{Decision, Lack, WatchedResource};
use prefetch::PrefetchMetrics;
use queue::QueueMetrics;
use replica::ReplicaMetrics;

/// All metrics. Cheap to share behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    admission: AdmissionMetrics,
    prefetch: PrefetchMetrics,
    queue: QueueMetrics,
    api: ApiMetrics,
    replica: ReplicaMetrics,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("headstart");
        Self {
            admission: AdmissionMetrics::register(&mut registry),
            prefetch: PrefetchMetrics::register(&mut registry),
            queue: QueueMetrics::register(&mut registry),
            api: ApiMetrics::register(&mut registry),
            replica: ReplicaMetrics::register(&mut registry),
            registry,
        }
    }
}

impl Metrics {
    /// The text exposition format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
