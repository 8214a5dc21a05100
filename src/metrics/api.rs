//! Counts of watch events and of requests to the API server.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Metrics;
use super::labels::{CallLabel, WatchLabel, WatchedResource};

/// Counts of watch events and of requests to the API server.
pub(super) struct ApiMetrics {
    watch_events: Family<WatchLabel, Counter>,
    watch_errors: Family<WatchLabel, Counter>,
    watch_lag: Histogram,
    calls: Family<CallLabel, Counter>,
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

impl Metrics {
    /// A watch brought an event.
    pub fn watch_event(&self, resource: WatchedResource) {
        self.api
            .watch_events
            .get_or_create(&WatchLabel { resource })
            .inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, resource: WatchedResource) {
        self.api
            .watch_errors
            .get_or_create(&WatchLabel { resource })
            .inc();
    }

    /// The watch has shown a pod so long after its create was answered.
    pub fn watch_lag(&self, lag: Duration) {
        self.api.watch_lag.observe(lag.as_secs_f64());
    }

    /// The API server answered a request, or did not: then the code says what happened.
    pub fn api_call(&self, verb: &'static str, code: String) {
        self.api
            .calls
            .get_or_create(&CallLabel { verb, code })
            .inc();
    }
}
