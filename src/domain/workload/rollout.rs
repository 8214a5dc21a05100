//! How far the Deployment controller is with a Deployment.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Condition type and reasons of the Deployment controller (`pkg/controller/deployment/util`).
const PROGRESSING: &str = "Progressing";
const NEW_REPLICA_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// How far the Deployment controller is with the newest template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The controller is done with it, whether it succeeded or gave up.
    pub settled: bool,
    /// When it last made progress.
    pub progressed: Option<Timestamp>,
}

impl Rollout {
    /// Whether pods of this rollout may still have to start, or did within `window` before `now`.
    ///
    /// This is what a new leader asks of every Deployment. Finished prefetch pods are kept for at least
    /// that window after the rollout, so within it a missing pod was never made.
    pub fn is_recent(&self, now: Timestamp, window: SignedDuration) -> bool {
        !self.settled
            || self
                .progressed
                .is_some_and(|at| now.duration_since(at) < window)
    }
}

pub(super) fn rollout_of(deployment: &Deployment) -> Rollout {
    let Some(status) = deployment.status.as_ref() else {
        return Rollout::default();
    };
    let progressing = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == PROGRESSING);
    let observed = status.observed_generation >= deployment.metadata.generation;
    Rollout {
        settled: observed
            && progressing
                .and_then(|c| c.reason.as_deref())
                .is_some_and(|reason| {
                    matches!(
                        reason,
                        NEW_REPLICA_SET_AVAILABLE | PROGRESS_DEADLINE_EXCEEDED
                    )
                }),
        progressed: progressing
            .and_then(|c| c.last_update_time.as_ref())
            .map(|time| time.0),
    }
}
