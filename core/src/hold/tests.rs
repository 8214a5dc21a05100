use super::*;
use crate::api::hold_mark::HoldMark;
use crate::api::mode::Mode;
use crate::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL};
use crate::workload::Workload;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const LIMITS: HoldLimits = HoldLimits {
    default: SignedDuration::from_mins(5),
    max: SignedDuration::from_mins(30),
};

mod end_reason;
mod gate;
mod pause;
mod state;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// shop/web with one image and three replicas, changed by these.
fn object(image: &str, changes: &[Value]) -> Deployment {
    let mut object = json!({
        "metadata": { "namespace": "shop", "name": "web", "generation": 2 },
        "spec": {
            "replicas": 3, "selector": {},
            "template": { "spec": { "containers": [{ "name": "app", "image": image }] } },
        },
    });
    for change in changes {
        json_patch::merge(&mut object, change);
    }
    serde_json::from_value(object).unwrap()
}

fn web(image: &str, change: Value) -> Workload {
    Workload::from_deployment(&object(image, &[change])).unwrap()
}

fn status(updated: i32, available: i32, reason: &str) -> Value {
    json!({ "status": {
        "observedGeneration": 2, "replicas": 3, "updatedReplicas": updated, "availableReplicas": available,
        "unavailableReplicas": 3 - available,
        "conditions": [{ "type": "Progressing", "status": "True", "reason": reason }],
    } })
}

fn complete() -> Workload {
    web("app:1", status(3, 3, "NewReplicaSetAvailable"))
}

fn marks(paused: bool) -> Value {
    json!({
        "metadata": {
            "labels": { HELD_LABEL: "true" },
            "annotations": { HELD_SINCE: "1970-01-01T00:01:40Z", HELD_UNTIL: "1970-01-01T00:06:40Z" },
        },
        "spec": { "paused": paused },
    })
}

fn held(image: &str, status: Value) -> Workload {
    let mut change = marks(true);
    json_patch::merge(&mut change, &status);
    web(image, change)
}

fn decided(new: &Workload, old: Option<&Workload>) -> HoldDecision {
    decide(new, old, false, ImagePresence::Unknown, LIMITS, at(200))
}

fn hold(since: i64, until: i64) -> HoldDecision {
    HoldDecision::Hold {
        since: at(since),
        until: at(until),
    }
}

#[test]
fn a_create_and_an_update_of_what_is_rolled_out_wait() {
    let new = web("app:2", json!({}));
    assert_eq!(decided(&new, None), hold(200, 500));
    assert_eq!(decided(&new, Some(&complete())), hold(200, 500));
}

#[test]
fn the_time_is_what_the_deployment_says_up_to_the_limit() {
    let asks = |timeout: &str| {
        let annotations = json!({ "headstart.dev/hold-timeout": timeout });
        let new = web(
            "app:2",
            json!({ "metadata": { "annotations": annotations } }),
        );
        decided(&new, None)
    };
    assert_eq!(asks("90s"), hold(200, 290));
    assert_eq!(asks("2h"), hold(200, 200 + 1800));
}

#[test]
fn what_a_user_paused_is_left_alone() {
    let new = web("app:2", json!({ "spec": { "paused": true } }));
    assert_eq!(decided(&new, None), HoldDecision::Unchanged);
    assert_eq!(decided(&new, Some(&complete())), HoldDecision::Unchanged);
}

#[test]
fn a_copy_of_a_held_deployment_begins_its_own_hold() {
    let copy = held("app:2", json!({}));
    assert_eq!(decided(&copy, None), hold(200, 500));
}

#[test]
fn a_fix_goes_out_at_once() {
    let new = web("app:2", json!({}));
    for (what, old) in [
        ("unfinished", status(1, 3, "ReplicaSetUpdated")),
        ("unavailable", status(3, 2, "NewReplicaSetAvailable")),
        ("given up", status(3, 3, "ProgressDeadlineExceeded")),
        ("not even begun", json!({})),
        (
            "not seen yet",
            json!({ "status": { "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3 } }),
        ),
    ] {
        let old = web("app:1", old);
        assert_eq!(decided(&new, Some(&old)), HoldDecision::Unchanged, "{what}");
    }
}

#[test]
fn what_needs_no_pull_or_has_no_pod_to_start_does_not_wait() {
    let new = web("app:2", json!({}));
    for presence in [ImagePresence::OnAllNodes, ImagePresence::NoEligibleNode] {
        let decision = decide(&new, Some(&complete()), false, presence, LIMITS, at(200));
        assert_eq!(decision, HoldDecision::Unchanged, "{presence:?}");
    }
    let none = web("app:2", json!({ "spec": { "replicas": 0 } }));
    assert_eq!(decided(&none, Some(&complete())), HoldDecision::Unchanged);
    assert_eq!(
        decided(&web("No Image", json!({})), None),
        HoldDecision::Unchanged
    );
}

#[test]
fn other_images_extend_a_hold_up_to_the_limit_of_the_first() {
    let old = held("app:1", status(0, 3, "DeploymentPaused"));
    let new = held("app:2", json!({}));
    assert_eq!(decided(&new, Some(&old)), hold(100, 400));
    // A manifest that knows nothing of the hold replaces it all.
    let replaced = web("app:2", json!({}));
    assert_eq!(decided(&replaced, Some(&old)), hold(100, 400));
}

#[test]
fn a_hold_ends_with_an_update_that_must_not_wait() {
    let new = held("app:2", json!({}));
    let failing = held("app:1", status(0, 2, "DeploymentPaused"));
    assert_eq!(decided(&new, Some(&failing)), HoldDecision::Release);
    let fine = held("app:1", status(0, 3, "DeploymentPaused"));
    let decision = decide(
        &new,
        Some(&fine),
        false,
        ImagePresence::OnAllNodes,
        LIMITS,
        at(200),
    );
    assert_eq!(decision, HoldDecision::Release);
}

#[test]
fn what_a_user_has_resumed_is_no_hold_any_more() {
    let mut resumed = marks(false);
    json_patch::merge(&mut resumed, &status(1, 3, "ReplicaSetUpdated"));
    let old = web("app:1", resumed);
    let new = web("app:2", marks(false));
    assert_eq!(decided(&new, Some(&old)), HoldDecision::Unchanged);
}

#[test]
fn a_hold_with_marks_that_cannot_be_begins_anew_with_other_images() {
    let paused = |since: &str| {
        let mut change = status(0, 3, "DeploymentPaused");
        let annotations = json!({ HELD_SINCE: since, HELD_UNTIL: "2099-01-01T00:05:00Z" });
        json_patch::merge(
            &mut change,
            &json!({ "metadata": { "annotations": annotations } }),
        );
        held("app:1", change)
    };
    let new = held("app:2", json!({}));
    for since in ["2099-01-01T00:00:00Z", "tomorrow", "1970-01-01T01:03:20Z"] {
        assert_eq!(
            decided(&new, Some(&paused(since))),
            hold(200, 500),
            "{since}"
        );
    }
}

#[test]
fn what_is_too_large_is_never_held_and_ends_its_hold() {
    let tolerations = vec![json!({"operator": "Exists"}); 65];
    let large = json!({"spec": {"template": {"spec": {"tolerations": tolerations}}}});
    let new = web("app:2", large.clone());
    assert_eq!(decided(&new, Some(&complete())), HoldDecision::Unchanged);
    assert_eq!(decided(&new, None), HoldDecision::Unchanged);
    let waiting = held("app:2", large);
    let marks = waiting.state.held.unwrap();
    let ended = end_reason(
        &waiting,
        marks,
        Mode::Hold,
        LIMITS,
        SignedDuration::ZERO,
        None,
        at(101),
    );
    assert_eq!(ended, Some(HoldEndReason::ImageFailed));
}
