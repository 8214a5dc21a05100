//! Counts of reviews.

use headstart_core::hold::GateClosed;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::{Decision, DecisionLabel, LackLabel, NotHeldLabel};

/// Counts of reviews.
pub(super) struct AdmissionMetrics {
    /// One for each [`Decision`]: there from the start, and found without a lock.
    pub(super) admissions: [Counter; Decision::ALL.len()],
    /// One for each reason, in the same way.
    pub(super) not_held: [Counter; GateClosed::ALL.len()],
    pub(super) shed: Family<LackLabel, Counter>,
    pub(super) reviews_expired: Counter,
}

impl AdmissionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
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
        let not_held = Family::<NotHeldLabel, Counter>::default();
        registry.register(
            "admission_not_held",
            "Rollouts that go on although they ask for a hold, by why it is not certain that a leader would resume them",
            not_held.clone(),
        );
        let not_held = GateClosed::ALL.map(|reason| {
            let reason = reason.reason();
            not_held.get_or_create(&NotHeldLabel { reason }).clone()
        });
        let shed = Family::default();
        registry.register(
            "admission_reviews_shed",
            "Reviews allowed unread, by what there was none of",
            shed.clone(),
        );
        let reviews_expired = Counter::default();
        registry.register(
            "admission_reviews_unconfirmed",
            "Reviews whose object was never seen stored: refused further on, or forged",
            reviews_expired.clone(),
        );
        Self {
            admissions,
            not_held,
            shed,
            reviews_expired,
        }
    }
}
