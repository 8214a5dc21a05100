//! Counts of reviews.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::{Decision, DecisionLabel, LackLabel};

/// Counts of reviews.
pub(super) struct AdmissionMetrics {
    /// One for each [`Decision`]: there from the start, and found without a lock.
    pub(super) admissions: [Counter; Decision::ALL.len()],
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
            shed,
            reviews_expired,
        }
    }
}
