//! What headstart counts, under names by Prometheus convention.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use headstart_core::outcome::{Outcome, PodOutcome};

mod labels;
#[cfg(test)]
mod tests;

use labels::{
    CallLabel, DecisionLabel, EndingLabel, LackLabel, OutcomeLabel, PodLabel, PolicyLabel,
    WatchLabel,
};
pub(crate) use labels::{Decision, Lack, Watched};

/// What is still to be done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// Deployments that are not decided on every node.
    pub deployments: usize,
    /// How long the oldest of them has been so.
    pub oldest: Duration,
    /// Nodes that are not decided, counted for each Deployment.
    pub places: usize,
    /// Nodes that pull.
    pub pulling: usize,
    /// Deployments whose rollout waits.
    pub held: usize,
}

/// All metrics. Cheap to share behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    /// One for each [`Decision`]: there from the start, and found without a lock.
    admissions: [Counter; Decision::ALL.len()],
    shed: Family<LackLabel, Counter>,
    unconfirmed: Counter,
    plans: Counter,
    pods_created: Counter,
    pods_deleted: Counter,
    pods_decided: Family<PodLabel, Counter>,
    queue_depth: Gauge,
    queue_oldest: Gauge<f64, AtomicU64>,
    places: Gauge,
    pulling: Gauge,
    watch_events: Family<WatchLabel, Counter>,
    watch_errors: Family<WatchLabel, Counter>,
    watch_lag: Histogram,
    calls: Family<CallLabel, Counter>,
    images: Family<OutcomeLabel, Counter>,
    warm_seconds: Histogram,
    held: Gauge,
    held_seconds: Family<EndingLabel, Histogram, fn() -> Histogram>,
    leader: Gauge,
    events_dropped: Counter,
    certificate_expiry: Gauge,
    authority_expiry: Gauge,
    policy_enforced: Family<PolicyLabel, Gauge>,
    misdirected_webhooks: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("headstart");
        let admissions = Family::<DecisionLabel, Counter>::default();
        registry.register(
            "admission_reviews",
            "Reviews by decision",
            admissions.clone(),
        );
        let admissions = Decision::ALL.map(|decision| {
            admissions
                .get_or_create(&DecisionLabel { decision })
                .clone()
        });
        let shed = Family::default();
        registry.register(
            "admission_reviews_shed",
            "Reviews allowed unread, by what there was none of",
            shed.clone(),
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
        let pods_decided = Family::default();
        registry.register(
            "prefetch_pods_decided",
            "Prefetch pods by what came of them, and why",
            pods_decided.clone(),
        );
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
        let leader = Gauge::default();
        registry.register(
            "leader",
            "1 on the replica that creates prefetch pods",
            leader.clone(),
        );
        let events_dropped = Counter::default();
        registry.register(
            "events_dropped",
            "Events on Deployments that were not written, because too many of their namespace waited",
            events_dropped.clone(),
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
        let policy_enforced = Family::default();
        registry.register(
            "policy_enforced",
            "1 if the API server refuses what this ValidatingAdmissionPolicy forbids, by the last self-test",
            policy_enforced.clone(),
        );
        let misdirected_webhooks = Gauge::default();
        registry.register(
            "misdirected_webhooks",
            "Webhooks of headstart's configurations that are called elsewhere, by the last self-test",
            misdirected_webhooks.clone(),
        );
        Self {
            registry,
            admissions,
            shed,
            unconfirmed,
            plans,
            pods_created,
            pods_deleted,
            pods_decided,
            queue_depth,
            queue_oldest,
            places,
            pulling,
            watch_events,
            watch_errors,
            watch_lag,
            calls,
            images,
            warm_seconds,
            held,
            held_seconds,
            leader,
            events_dropped,
            certificate_expiry,
            authority_expiry,
            policy_enforced,
            misdirected_webhooks,
        }
    }
}

impl Metrics {
    /// A review was answered.
    pub fn admission(&self, decision: Decision) {
        self.admissions[decision as usize].inc();
    }

    /// A review was allowed unread.
    pub fn shed(&self, lack: Lack) {
        self.admission(Decision::Shed);
        self.shed.get_or_create(&LackLabel { lack }).inc();
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

    /// It is known what came of a pod: what is worst about its images.
    pub fn pod_decided(&self, pod: &PodOutcome) {
        let mut label = PodLabel {
            outcome: "Pulled",
            reason: "",
        };
        for image in &pod.images {
            let (outcome, reason) = match image {
                Outcome::Pulled => ("Pulled", ""),
                Outcome::Pending => ("Pending", ""),
                Outcome::Failed(failure) => ("Failed", failure.kind.reason()),
                Outcome::Rejected(failure) => ("Rejected", failure.kind.reason()),
            };
            self.image(if reason.is_empty() { outcome } else { reason });
            if label.reason.is_empty() && outcome != "Pulled" {
                label = PodLabel { outcome, reason };
            }
        }
        self.pods_decided.get_or_create(&label).inc();
    }

    /// What is still to be done.
    pub fn backlog(&self, backlog: Backlog) {
        let Backlog {
            deployments,
            oldest,
            places,
            pulling,
            held,
        } = backlog;
        let gauge = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.queue_depth, deployments);
        gauge(&self.places, places);
        gauge(&self.pulling, pulling);
        gauge(&self.held, held);
        self.queue_oldest.set(oldest.as_secs_f64());
    }

    /// An event on a Deployment was not written: too many of its namespace wait.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A watch brought an event.
    pub fn watched(&self, resource: Watched) {
        self.watch_events
            .get_or_create(&WatchLabel { resource })
            .inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, resource: Watched) {
        self.watch_errors
            .get_or_create(&WatchLabel { resource })
            .inc();
    }

    /// The watch has shown a pod so long after its create was answered.
    pub fn watch_lag(&self, lag: Duration) {
        self.watch_lag.observe(lag.as_secs_f64());
    }

    /// The API server answered a request, or did not: then the code says what happened.
    pub fn api_call(&self, verb: &'static str, code: String) {
        self.calls.get_or_create(&CallLabel { verb, code }).inc();
    }

    /// A node has all images of a Deployment.
    pub fn node_warm(&self, after: Duration) {
        self.warm_seconds.observe(after.as_secs_f64());
    }

    /// A rollout waits no longer.
    pub fn hold_ended(&self, reason: &'static str, after: Duration) {
        self.held_seconds
            .get_or_create(&EndingLabel { reason })
            .observe(after.as_secs_f64());
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

    /// The self-test tried a policy.
    pub fn policy_enforced(&self, policy: &'static str, enforced: bool) {
        let gauge = self.policy_enforced.get_or_create(&PolicyLabel { policy });
        gauge.set(i64::from(enforced));
    }

    /// The self-test looked where the webhooks are called.
    pub fn misdirected_webhooks(&self, count: usize) {
        self.misdirected_webhooks
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The text exposition format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
