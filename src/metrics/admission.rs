//! Counts of reviews.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::labels::{Decision, DecisionLabel, Lack, LackLabel};

/// Counts of reviews.
pub(super) struct AdmissionMetrics {
    /// One for each [`Decision`]: there from the start, and found without a lock.
    admissions: [Counter; Decision::ALL.len()],
    shed: Family<LackLabel, Counter>,
    reviews_expired: Counter,
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

    /// Reviews expired without a stored object.
    pub fn reviews_expired(&self, count: usize) {
        self.admission
            .reviews_expired
            .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }
}
