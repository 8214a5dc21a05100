//! headstart's metrics, under names by Prometheus convention.

use std::fmt;
use std::time::Duration;

use headstart_core::controller::Stats;
use headstart_core::hold::{GateClosed, ResumeHealth};
use headstart_core::pod::status::{ImageStatus, PodStatusSummary};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
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
use labels::{CallLabel, HoldEndLabel, LackLabel, OutcomeLabel, PodLabel, PolicyLabel, WatchLabel};
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

/// Reviews.
impl Metrics {
    /// A review was answered.
    pub fn admission(&self, decision: Decision) {
        self.admission.admissions[decision as usize].inc();
    }

    /// A review was allowed unread.
    pub fn shed(&self, lack: Lack) {
        self.admission(Decision::Shed);
        self.admission.shed.get_or_create(&LackLabel { lack }).inc();
    }

    /// A rollout was not held.
    pub fn not_held(&self, reason: GateClosed) {
        self.admission.not_held[reason as usize].inc();
    }

    /// Reviews expired without a stored object.
    pub fn reviews_expired(&self, count: usize) {
        self.admission
            .reviews_expired
            .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

/// Prefetches, and the pods that they make.
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

    /// Records the result of a pod: that of its worst image.
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

/// The pending work, and holds.
impl Metrics {
    /// Sets the gauges of the pending work.
    pub(crate) fn set_queue_stats(&self, stats: Stats) {
        let Stats {
            deployments,
            oldest,
            nodes,
            pulling,
            held,
            creates,
            resumes,
        } = stats;
        let gauge = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.queue.queue_depth, deployments);
        gauge(&self.queue.places, nodes);
        gauge(&self.queue.pulling, pulling);
        gauge(&self.queue.creates, creates);
        gauge(&self.queue.held, held);
        let failing = resumes == ResumeHealth::Failing;
        self.queue.resumes_failing.set(i64::from(failing));
        self.queue.queue_oldest.set(oldest.as_secs_f64());
    }

    /// A hold ended.
    pub fn hold_ended(&self, reason: &'static str, after: Duration) {
        self.queue
            .held_seconds
            .get_or_create(&HoldEndLabel { reason })
            .observe(after.as_secs_f64());
    }
}

/// Watches and requests.
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

    /// The watch showed a pod this long after its create was answered.
    pub fn watch_lag(&self, lag: Duration) {
        self.api.watch_lag.observe(lag.as_secs_f64());
    }

    /// The API server answered a request. Without an answer the code names the failure.
    pub fn api_call(&self, verb: &'static str, code: String) {
        self.api
            .calls
            .get_or_create(&CallLabel { verb, code })
            .inc();
    }
}

/// This replica.
impl Metrics {
    /// An event on a Deployment was not written: too many of its namespace wait.
    pub fn event_dropped(&self) {
        self.replica.events_dropped.inc();
    }

    /// This replica became, or is no longer, the leader.
    pub fn leading(&self, leading: bool) {
        self.replica.leader.set(i64::from(leading));
    }

    /// The serving certificate was replaced.
    pub fn certificate_expires(&self, unix_seconds: i64) {
        self.replica.certificate_expiry.set(unix_seconds);
    }

    /// The CA was replaced.
    pub fn ca_expires(&self, unix_seconds: i64) {
        self.replica.authority_expiry.set(unix_seconds);
    }

    /// The self-test tried a policy.
    pub fn policy_enforced(&self, policy: &'static str, enforced: bool) {
        let gauge = self
            .replica
            .policy_enforced
            .get_or_create(&PolicyLabel { policy });
        gauge.set(i64::from(enforced));
    }

    /// The self-test checked the addresses of the webhooks.
    pub fn misdirected_webhooks(&self, count: usize) {
        self.replica
            .misdirected_webhooks
            .set(i64::try_from(count).unwrap_or(i64::MAX));
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
