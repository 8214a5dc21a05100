//! The report of this term's controller for the Lease.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use headstart_core::api::well_known::{HOLDING_ANNOTATION, RESUMES_ANNOTATION};
use headstart_core::hold::{RESUME_GRACE, ResumeHealth};
use tokio::time::Instant;

/// The number of held rollouts, and the result of resuming them; `None` while no controller runs. The lock is held for a copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControllerReport(Arc<Mutex<Option<(usize, ResumeHealth)>>>);

impl ControllerReport {
    /// Sets the report, each second.
    pub(crate) fn set(&self, holding: usize, resumes: ResumeHealth) {
        self.replace(Some((holding, resumes)));
    }

    /// Records that the controller ended.
    pub(crate) fn clear(&self) {
        self.replace(None);
    }

    /// Writes the report into the annotations of the Lease, which this replica holds since `leading_since`. Without a report
    /// the number of holds stays unchanged, and after [`RESUME_GRACE`] resuming counts as failing: the controller has not
    /// begun.
    pub(super) fn annotate(
        &self,
        annotations: &mut BTreeMap<String, String>,
        leading_since: Option<Instant>,
    ) {
        let report = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = leading_since.map(|since| since.elapsed());
        let resumes = match report {
            Some((holding, resumes)) => {
                annotations.insert(HOLDING_ANNOTATION.to_owned(), holding.to_string());
                resumes
            }
            None if waits.is_some_and(|waits| waits >= RESUME_GRACE) => ResumeHealth::Failing,
            None => ResumeHealth::Ok,
        };
        let resumes = resumes.as_str().to_owned();
        annotations.insert(RESUMES_ANNOTATION.to_owned(), resumes);
    }

    fn replace(&self, report: Option<(usize, ResumeHealth)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_a_controller_resumes_nothing_after_30_s() {
        let report = ControllerReport::default();
        let mut annotations = BTreeMap::from([(HOLDING_ANNOTATION.to_owned(), "7".to_owned())]);
        let leading_since = Some(Instant::now());
        let mut says = |since| {
            report.annotate(&mut annotations, since);
            let of = |key: &str| annotations[key].clone();
            format!("{} {}", of(HOLDING_ANNOTATION), of(RESUMES_ANNOTATION))
        };
        assert_eq!(says(None), "7 ok");
        tokio::time::advance(RESUME_GRACE).await;
        assert_eq!(says(leading_since), "7 failing");
        report.set(2, ResumeHealth::Ok);
        assert_eq!(says(leading_since), "2 ok");
        report.set(3, ResumeHealth::Failing);
        assert_eq!(says(leading_since), "3 failing");
        report.clear();
        assert_eq!(says(None), "3 ok");
    }
}
