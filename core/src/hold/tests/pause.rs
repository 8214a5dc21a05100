//! Pauses that are not headstart's.

use super::*;
use crate::hold::{LAST_APPLIED, PAUSER_ANNOTATIONS, is_paused_by_user};

/// A held Deployment, changed by these.
fn pauses(changes: &[Value]) -> bool {
    let held = [marks(true)];
    let changes: Vec<Value> = held.iter().chain(changes).cloned().collect();
    is_paused_by_user(&object("app:1", &changes))
}

fn owner(manager: &str, operation: &str, fields: Value) -> Value {
    json!({
        "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    })
}

fn managed(entries: &[Value]) -> Value {
    json!({ "metadata": { "managedFields": entries } })
}

fn paused() -> Value {
    json!({ "f:spec": { "f:paused": {} } })
}

fn copied() -> Value {
    json!({
        "f:metadata": { "f:labels": { "f:headstart.dev/held": {} } }, "f:spec": { "f:paused": {} },
    })
}

#[test]
fn headstarts_own_pause_has_no_owner() {
    assert!(!pauses(&[]));
    let others = [
        owner(
            "kubectl",
            "Update",
            json!({ "f:spec": { "f:replicas": {} } }),
        ),
        owner(
            "kube-controller-manager",
            "Update",
            json!({ "f:status": { "f:replicas": {} } }),
        ),
    ];
    assert!(!pauses(&[managed(&others)]));
}

#[test]
fn a_pause_of_any_manager_is_its_own() {
    for (manager, operation) in [
        // Ended the hold and paused again, before headstart took the marks away.
        ("kubectl-rollout", "Update"),
        ("kubectl-edit", "Update"),
        ("kubectl-patch", "Update"),
        ("kubectl", "Apply"),
        ("argocd-controller", "Apply"),
        ("helm", "Apply"),
        ("flux", "Apply"),
        ("an-operator", "Update"),
    ] {
        let entry = owner(manager, operation, paused());
        assert!(pauses(&[managed(&[entry])]), "{manager} {operation}");
    }
}

#[test]
fn a_copy_of_a_held_deployment_pauses_nothing_and_another_owner_does() {
    let copy = owner("kubectl", "Apply", copied());
    assert!(!pauses(&[managed(std::slice::from_ref(&copy))]));
    let user = owner("kubectl-rollout", "Update", paused());
    assert!(pauses(&[managed(&[copy, user])]));
}

fn applied(manifest: &Value) -> Value {
    json!({ "metadata": { "annotations": { LAST_APPLIED: manifest.to_string() } } })
}

#[test]
fn a_manifest_that_was_applied_by_the_client_pauses() {
    let spec = json!({ "spec": { "selector": {}, "template": {}, "paused": true } });
    assert!(pauses(&[applied(&spec)]));
    for manifest in [
        json!({ "spec": { "selector": {}, "template": {} } }),
        json!({ "spec": { "paused": false } }),
        json!({ "metadata": {} }),
        json!([]),
        marks(true),
    ] {
        assert!(!pauses(&[applied(&manifest)]), "{manifest}");
    }
    let labelled =
        json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "paused": true } });
    assert!(pauses(&[applied(&labelled)]));
}

#[test]
fn the_mark_of_another_controller_that_pauses_is_respected() {
    for key in PAUSER_ANNOTATIONS {
        let mark = json!({ "metadata": { "annotations": { key: "2026-01-01T00:00:00Z" } } });
        assert!(pauses(&[mark]), "{key}");
    }
    let period = json!({ "metadata": { "annotations": { "deployment.reloader.stakater.com/pause-period": "5m" } } });
    assert!(!pauses(&[period]), "it would pause, and has not");
}

#[test]
fn where_a_client_names_the_pause_and_does_not_pause_nothing_is_held() {
    // `paused: false`, applied by the server: the field has an owner, and the end of the hold could not tell whose pause it is.
    let new = web("app:2", json!({}));
    let rolled_out = complete();
    let decide =
        |new: &Workload, old| decide(new, old, true, ImagePresence::Unknown, LIMITS, at(200));
    assert_eq!(decide(&new, None), HoldDecision::PauseNamed);
    assert_eq!(decide(&new, Some(&rolled_out)), HoldDecision::PauseNamed);
    let unfinished = web("app:1", json!({}));
    assert_eq!(decide(&new, Some(&unfinished)), HoldDecision::Unchanged);
    let old = held("app:1", status(0, 3, "DeploymentPaused"));
    assert_eq!(decide(&new, Some(&old)), HoldDecision::Release);
    // A pause that came during the hold: the hold goes on, and its end leaves it paused.
    let paused = held("app:2", json!({}));
    assert_eq!(decide(&paused, Some(&old)), hold(100, 400));
}
