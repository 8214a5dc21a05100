//! Steps about a Deployment: its versions, generations, pauses and holds.

use headstart_core::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL};
use serde_json::{Value, json};

use super::{DEPLOYMENTS, Step, WEB, WEB_STATUS, delete, deployment, get, labelled, step};

/// A merge patch of the Deployment by a manager.
fn patch(name: &'static str, manager: &'static str, patch: Value) -> Step {
    step(name, ("PATCH", WEB), manager, patch)
}

/// The Deployment `web`, changed.
fn web(image: &str, change: Value) -> Value {
    let mut web = deployment("web", image);
    json_patch::merge(&mut web, &change);
    web
}

/// Creates, patches, and the status.
pub(super) fn deployments() -> Vec<Step> {
    let paused = |paused: Value| json!({"spec": {"paused": paused}});
    let annotated = |value: &str| json!({"metadata": {"annotations": {"note": value}}});
    let versioned =
        |version: &str| json!({"metadata": {"resourceVersion": version}, "spec": {"paused": true}});
    vec![
        step(
            "create a Deployment with a status",
            ("POST", DEPLOYMENTS),
            "kubectl",
            web("app:1", json!({"status": {"observedGeneration": 7}})),
        )
        .saved_as("create"),
        step(
            "create it again",
            ("POST", DEPLOYMENTS),
            "kubectl",
            deployment("web", "app:1"),
        ),
        get("get it", WEB),
        patch("scale", "kubectl", json!({"spec": {"replicas": 1}})),
        patch(
            "scale to what it is",
            "other",
            json!({"spec": {"replicas": 1}}),
        ),
        patch("set a label", "kubectl", labelled("a")),
        patch("set an annotation", "kubectl", annotated("a")),
        patch(
            "patch a version that is old",
            "kubectl",
            versioned("{version of create}"),
        ),
        get("get the version", WEB).saved_as("current"),
        patch(
            "pause this version",
            "kubectl",
            versioned("{version of current}"),
        ),
        patch("pause what is paused", "other", paused(json!(true))),
        patch("resume by false", "other", paused(json!(false))),
        patch(
            "resume what is not paused, by false",
            "kubectl",
            paused(json!(false)),
        ),
        patch("pause by another", "other", paused(json!(true))),
        patch("resume by null", "kubectl", paused(Value::Null)),
        patch(
            "set a generation and a status",
            "kubectl",
            json!({
                "metadata": {"generation": 99}, "status": {"observedGeneration": 99},
            }),
        ),
        step(
            "set the status",
            ("PATCH", WEB_STATUS),
            "controller",
            json!({"status": {"observedGeneration": 2}}),
        ),
        step(
            "set the status to what it is",
            ("PATCH", WEB_STATUS),
            "controller",
            json!({"status": {"observedGeneration": 2}}),
        ),
        step(
            "patch a Deployment that does not exist",
            (
                "PATCH",
                "/apis/apps/v1/namespaces/conformance/deployments/absent",
            ),
            "kubectl",
            labelled("a"),
        ),
    ]
}

/// Holds as headstart makes and ends them, and updates.
pub(super) fn updates() -> Vec<Step> {
    let marks = |value: Value| {
        json!({"metadata": {
            "labels": {HELD_LABEL: value}, "annotations": {HELD_SINCE: value, HELD_UNTIL: value},
        }})
    };
    let put = |name, manager, object: Value| step(name, ("PUT", WEB), manager, object);
    let held = json!({
        "metadata": {"labels": {HELD_LABEL: "true"}}, "spec": {"paused": true},
    });
    let with_metadata =
        |field: &str, value: &str| web("app:3", json!({"metadata": {field: value}}));
    let mut end = marks(Value::Null);
    end["metadata"]["resourceVersion"] = json!("{version of held}");
    end["spec"] = json!({"paused": null});
    vec![
        patch("mark as held", "first", marks(json!("true"))),
        patch(
            "pause by another than marks",
            "second",
            json!({"spec": {"paused": true}}),
        )
        .saved_as("held"),
        patch("end the hold as headstart does", "headstart", end.clone()).saved_as("ended"),
        patch("end it again", "headstart", end),
        put(
            "update with marks and a pause",
            "third",
            web("app:2", held.clone()),
        ),
        put(
            "update to the same by another",
            "fourth",
            web("app:2", held),
        ),
        put(
            "update without marks and pause",
            "fourth",
            web("app:2", json!({})),
        ),
        put(
            "update a version that is old",
            "kubectl",
            with_metadata("resourceVersion", "{version of ended}"),
        ),
        put(
            "update another UID",
            "kubectl",
            with_metadata("uid", "other"),
        ),
        step(
            "update a Deployment that does not exist",
            (
                "PUT",
                "/apis/apps/v1/namespaces/conformance/deployments/absent",
            ),
            "kubectl",
            deployment("absent", "app:1"),
        ),
        put(
            "update with a status",
            "kubectl",
            web("app:3", json!({"status": {"observedGeneration": 99}})),
        ),
    ]
}

/// Deletes and their preconditions, and another Deployment by the same name.
pub(super) fn deletes() -> Vec<Step> {
    let only = |field: &str, value: &str| json!({"preconditions": {field: value}});
    vec![
        delete("delete another UID", WEB, only("uid", "other")),
        delete("delete another version", WEB, only("resourceVersion", "1")),
        delete("delete this UID", WEB, only("uid", "{uid of create}")),
        get("get what is deleted", WEB),
        delete("delete it again", WEB, only("uid", "{uid of create}")),
        step(
            "create it anew",
            ("POST", DEPLOYMENTS),
            "kubectl",
            deployment("web", "app:1"),
        ),
        delete(
            "delete it by the UID of the one before",
            WEB,
            only("uid", "{uid of create}"),
        ),
    ]
}
