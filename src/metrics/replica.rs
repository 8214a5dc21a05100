//! The state of this replica: its lease, its events, its certificate and its self-test.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::PolicyLabel;

/// The state of this replica: its lease, its events, its certificate and its self-test.
pub(super) struct ReplicaMetrics {
    pub(super) leader: Gauge,
    pub(super) events_dropped: Counter,
    pub(super) certificate_expiry: Gauge,
    pub(super) authority_expiry: Gauge,
    pub(super) policy_enforced: Family<PolicyLabel, Gauge>,
    pub(super) misdirected_webhooks: Gauge,
}

impl ReplicaMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
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
            leader,
            events_dropped,
            certificate_expiry,
            authority_expiry,
            policy_enforced,
            misdirected_webhooks,
        }
    }
}
