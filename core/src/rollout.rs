//! The progress of the Deployment controller with a Deployment.

use k8s_openapi::api::apps::v1::DeploymentStatus;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::annotations::Amount;

/// Condition type and reasons of the Deployment controller (`pkg/controller/deployment/util`).
const PROGRESSING: &str = "Progressing";
const NEW_REPLICA_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const DEPLOYMENT_PAUSED: &str = "DeploymentPaused";
const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const FAILED_CREATE: &str = "FailedCreate";
/// The API server's words for a quota that is full.
const EXCEEDED_QUOTA: &str = "exceeded quota";

/// The progress of the Deployment controller with the newest template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The controller is done with it, whether it succeeded or gave up.
    pub settled: bool,
    /// The time at which it last made progress.
    pub progressed: Option<Timestamp>,
    /// Every pod that is asked for runs the newest template and is available, and there is no other:
    /// what `kubectl rollout status` calls successfully rolled out.
    pub complete: bool,
    /// Pods are missing, or the controller has given up.
    pub failing: bool,
    /// A quota keeps its pods from being created.
    pub quota_exceeded: bool,
    /// The Deployment wants new pods to be ready before its images go to other nodes, and they are not.
    pub awaits_ready: bool,
}

impl Rollout {
    /// Returns whether pods of this rollout may still have to start, or did within `window` before `now`.
    ///
    /// A new leader asks this of every Deployment. Finished prefetch pods are kept for at least that window after the
    /// rollout, so within it a missing pod was never made.
    pub fn is_recent(&self, now: Timestamp, window: SignedDuration) -> bool {
        !self.settled
            || self
                .progressed
                .is_some_and(|at| now.duration_since(at) < window)
    }
}

/// Reads the progress. `replicas` is the number of pods that the Deployment of this `generation` asks for, `after_ready` the
/// number of new ones that have to be ready before its images go to other nodes.
pub(crate) fn rollout_of(
    generation: Option<i64>,
    replicas: i32,
    after_ready: Option<Amount>,
    status: Option<&DeploymentStatus>,
) -> Rollout {
    let Some(status) = status else {
        return Rollout {
            awaits_ready: after_ready.is_some(),
            ..Rollout::default()
        };
    };
    let progressing = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == PROGRESSING);
    let reason = progressing.and_then(|c| c.reason.as_deref());
    let gave_up = reason == Some(PROGRESS_DEADLINE_EXCEEDED);
    let observed = status.observed_generation >= generation;
    let failing = gave_up || status.unavailable_replicas.unwrap_or(0) > 0;
    let complete = observed && !failing && has_all(replicas, status);
    // A pause after the rollout replaces the reason that tells that it was complete; its pods tell it then.
    let paused_later = reason == Some(DEPLOYMENT_PAUSED) && complete && replicas > 0;
    let available = reason == Some(NEW_REPLICA_SET_AVAILABLE);
    // Pods that fail after the rollout say nothing against its version. Without pods nothing speaks for it.
    let is_proven = |wanted| {
        let has_run = available && replicas > 0;
        observed && (has_run || new_ready_pods(status) >= needed(wanted, replicas))
    };
    Rollout {
        settled: observed && (gave_up || available || paused_later),
        progressed: progressing
            .and_then(|c| c.last_update_time.as_ref())
            .map(|time| time.0),
        complete,
        failing,
        quota_exceeded: is_refused_by_quota(status),
        awaits_ready: after_ready.is_some_and(|wanted| !is_proven(wanted)),
    }
}

/// Returns whether a ReplicaSet reports, through its Deployment, that a quota refuses its pods.
fn is_refused_by_quota(status: &DeploymentStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| {
        condition.type_ == REPLICA_FAILURE
            && condition.status == "True"
            && condition.reason.as_deref() == Some(FAILED_CREATE)
            && condition
                .message
                .as_deref()
                .is_some_and(|message| message.contains(EXCEEDED_QUOTA))
    })
}

/// Returns the number of new pods that have to be ready: at least one, and not more than there will be.
fn needed(wanted: Amount, replicas: i32) -> usize {
    let replicas = usize::try_from(replicas).unwrap_or(0);
    wanted.of(replicas).min(replicas).max(1)
}

/// Returns the least number of new pods that are ready. The status counts the ready pods of all versions, so the old ones count
/// as ready.
fn new_ready_pods(status: &DeploymentStatus) -> usize {
    let count = |count: Option<i32>| count.unwrap_or(0).max(0);
    let updated = count(status.updated_replicas);
    let old = count(status.replicas) - updated;
    let new = count(status.ready_replicas).saturating_sub(old);
    usize::try_from(new.min(updated)).unwrap_or(0)
}

fn has_all(replicas: i32, status: &DeploymentStatus) -> bool {
    [
        status.updated_replicas,
        status.replicas,
        status.available_replicas,
    ]
    .into_iter()
    .all(|count| count.unwrap_or(0) == replicas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pause_after_the_rollout_leaves_it_settled() {
        let paused = |replicas: i32, updated: i32| {
            let status = serde_json::from_value(json!({
                "observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": replicas,
                "conditions": [{"type": "Progressing", "status": "Unknown", "reason": "DeploymentPaused"}],
            }));
            rollout_of(Some(2), replicas, None, Some(&status.unwrap())).settled
        };
        assert!(paused(3, 3));
        assert!(!paused(3, 0), "other images wait for the end of the pause");
        assert!(!paused(0, 0), "no pod tells whether they do");
    }

    #[test]
    fn a_quota_that_refuses_pods_is_told_from_other_refusals() {
        let refused = |status: &str, reason: &str, message: &str| {
            let condition = json!({"type": "ReplicaFailure", "status": status, "reason": reason, "message": message});
            let status = serde_json::from_value(json!({"conditions": [condition]}));
            rollout_of(Some(2), 1, None, Some(&status.unwrap())).quota_exceeded
        };
        let quota = r#"pods "web-5d" is forbidden: exceeded quota: pods, requested: count/pods=1, used: count/pods=5, limited: count/pods=5"#;
        assert!(refused("True", "FailedCreate", quota));
        assert!(!refused("False", "FailedCreate", quota));
        assert!(!refused("True", "FailedDelete", quota));
        assert!(!refused(
            "True",
            "FailedCreate",
            "admission webhook denied the request"
        ));
    }

    fn awaits(wanted: &str, replicas: i32, status: serde_json::Value) -> bool {
        let status = serde_json::from_value(status).unwrap();
        let wanted = wanted.parse().ok();
        rollout_of(Some(2), replicas, wanted, Some(&status)).awaits_ready
    }

    #[test]
    fn new_pods_are_ready_by_what_the_status_proves() {
        let status = |total: i32, updated: i32, ready: i32| json!({"observedGeneration": 2, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready});
        for (wanted, replicas, status, expected) in [
            ("1", 4, status(5, 1, 4), true),
            ("1", 4, status(5, 1, 5), false),
            ("1", 4, status(5, 2, 4), false),
            ("1", 4, status(4, 2, 2), true),
            ("25%", 5, status(6, 2, 5), true),
            ("25%", 5, status(6, 2, 6), false),
            ("50", 4, status(4, 4, 3), true),
            ("50", 4, status(4, 4, 4), false),
            ("1", 0, status(0, 0, 0), true),
        ] {
            let text = format!("{wanted} of {replicas}: {status}");
            assert_eq!(awaits(wanted, replicas, status), expected, "{text}");
        }
        let unseen = json!({"observedGeneration": 1, "replicas": 4, "updatedReplicas": 4, "readyReplicas": 4});
        assert!(awaits("1", 4, unseen), "the status of the version before");
        assert!(rollout_of(None, 1, "1".parse().ok(), None).awaits_ready);
        assert!(!rollout_of(None, 1, None, None).awaits_ready);
    }

    #[test]
    fn a_rollout_that_was_through_waits_for_no_pod() {
        let through = |replicas: i32| {
            let conditions = json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]);
            let status = json!({"observedGeneration": 2, "replicas": replicas, "updatedReplicas": replicas,
                "conditions": conditions});
            awaits("100%", replicas, status)
        };
        assert!(!through(3), "its pods failed later");
        assert!(through(0), "it has never run");
    }
}
