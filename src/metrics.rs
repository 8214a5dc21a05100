//! What headstart counts, under names by Prometheus convention.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What came of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Decision {
    /// Noted for the worker.
    Noted,
    /// Not a change of images, or not ours.
    Ignored,
    /// A dry run, which has no effect.
    DryRun,
    /// No room to note it; the watch brings the object all the same.
    Overflow,
    /// Allowed without being read: no room or no time.
    Shed,
    /// headstart's label and annotations have values that can be acted on.
    Valid,
    /// They do not: the one thing that is ever denied.
    Denied,
    /// Not a review.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabel {
    decision: Decision,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: String,
}

/// All metrics. Cheap to share behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    admissions: Family<DecisionLabel, Counter>,
    unconfirmed: Counter,
    plans: Counter,
    pods_created: Counter,
    pods_deleted: Counter,
    images: Family<OutcomeLabel, Counter>,
    warm_seconds: Histogram,
    leader: Gauge,
    certificate_expiry: Gauge,
    authority_expiry: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("headstart");
        let admissions = Family::default();
        registry.register(
            "admission_reviews",
            "Reviews by decision",
            admissions.clone(),
        );
        let unconfirmed = Counter::default();
        registry.register(
            "admission_reviews_unconfirmed",
            "Reviews whose object was never seen stored: refused further on, or forged",
            unconfirmed.clone(),
        );
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
        let leader = Gauge::default();
        registry.register(
            "leader",
            "1 on the replica that creates prefetch pods",
            leader.clone(),
        );
        let certificate_expiry = Gauge::default();
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the serving certificate expires, in seconds since the epoch",
            certificate_expiry.clone(),
        );
        let authority_expiry = Gauge::default();
        registry.register(
            "ca_expiry_timestamp_seconds",
            "When the CA that signs serving certificates expires, in seconds since the epoch",
            authority_expiry.clone(),
        );
        Self {
            registry,
            admissions,
            unconfirmed,
            plans,
            pods_created,
            pods_deleted,
            images,
            warm_seconds,
            leader,
            certificate_expiry,
            authority_expiry,
        }
    }
}

impl Metrics {
    /// A review was answered.
    pub fn admission(&self, decision: Decision) {
        self.admissions
            .get_or_create(&DecisionLabel { decision })
            .inc();
    }

    /// Reviews expired without a stored object.
    pub fn unconfirmed(&self, count: usize) {
        self.unconfirmed
            .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A prefetch was planned.
    pub fn planned(&self) {
        self.plans.inc();
    }

    /// A prefetch pod was created.
    pub fn pod_created(&self) {
        self.pods_created.inc();
    }

    /// A prefetch pod was deleted.
    pub fn pod_deleted(&self) {
        self.pods_deleted.inc();
    }

    /// An image was decided on a node.
    pub fn image(&self, outcome: &str) {
        self.images
            .get_or_create(&OutcomeLabel {
                outcome: outcome.to_owned(),
            })
            .inc();
    }

    /// A node has all images of a Deployment.
    pub fn node_warm(&self, after: Duration) {
        self.warm_seconds.observe(after.as_secs_f64());
    }

    /// This replica became, or is no longer, the leader.
    pub fn leading(&self, leading: bool) {
        self.leader.set(i64::from(leading));
    }

    /// The serving certificate was replaced.
    pub fn certificate_expires(&self, unix_seconds: i64) {
        self.certificate_expiry.set(unix_seconds);
    }

    /// The CA was replaced.
    pub fn authority_expires(&self, unix_seconds: i64) {
        self.authority_expiry.set(unix_seconds);
    }

    /// The text exposition format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention() {
        let metrics = Metrics::default();
        metrics.admission(Decision::Noted);
        metrics.node_warm(Duration::from_secs(3));
        let text = metrics.encode();
        for line in [
            "headstart_admission_reviews_total{decision=\"Noted\"} 1",
            "headstart_admission_to_pulled_seconds_count 1",
            "headstart_leader 0",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
