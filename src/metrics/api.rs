//! Counts of watch events and of requests to the API server.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::labels::{CallLabel, WatchLabel};

/// Counts of watch events and of requests to the API server.
pub(super) struct ApiMetrics {
    pub(super) watch_events: Family<WatchLabel, Counter>,
    pub(super) watch_errors: Family<WatchLabel, Counter>,
    pub(super) watch_lag: Histogram,
    pub(super) calls: Family<CallLabel, Counter>,
}

impl ApiMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let watch_events = Family::default();
        registry.register(
            "watch_events",
            "Events that watches brought",
            watch_events.clone(),
        );
        let watch_errors = Family::default();
        registry.register(
            "watch_errors",
            "Times that a watch failed and was begun again",
            watch_errors.clone(),
        );
        // From a millisecond, an idle API server, to half a minute, a watch that was cut.
        let watch_lag = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        registry.register(
            "watch_lag_seconds",
            "Time from the answer to a create to the watch showing the pod",
            watch_lag.clone(),
        );
        let calls = Family::default();
        registry.register(
            "api_calls",
            "Requests to the API server by verb and last status code",
            calls.clone(),
        );
        Self {
            watch_events,
            watch_errors,
            watch_lag,
            calls,
        }
    }
}
