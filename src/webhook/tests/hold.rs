//! Tests the answers in mode hold.

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::hold_gate::HoldGate;
use crate::watch::SharedStore;
use headstart_core::api::hold_mark::HoldMark;
use headstart_core::hold::HoldLimits;
use headstart_core::pod::PodSettings;

fn serve_with_holds() -> Served {
    serve_looking_at(&[])
}

/// Limits the watched namespaces, as `--namespaces` does.
fn serve_looking_at(namespaces: &[String]) -> Served {
    serve_behind(HoldGate::just_renewed(), namespaces)
}

fn serve_behind(gate: HoldGate, namespaces: &[String]) -> Served {
    let store = SharedStore::new("headstart");
    let settings = PodSettings::new("headstart:v1");
    let limits = HoldLimits {
        default: SignedDuration::from_mins(5),
        max: SignedDuration::from_mins(30),
    };
    serve_through(Some(HoldAdmission {
        store,
        settings: settings.into(),
        limits,
        namespaces: namespaces.into(),
        permit: Default::default(),
        gate,
    }))
}

/// Returns the object after the patch of a review, and the response.
async fn admitted(served: &Served, path: &str, review: &Value) -> (Value, Value) {
    let (status, body) = served
        .post_to(path, "application/json", review.to_string())
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let response = answer["response"].clone();
    assert_eq!(response["allowed"], true);
    let mut object = review["request"]["object"].clone();
    if response.get("patch").is_some() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: Patch = serde_json::from_slice(&patch.0).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    (object, response)
}

fn held(object: &Value) -> Option<HoldMark> {
    HoldMark::read(&serde_json::from_value::<Deployment>(object.clone()).unwrap())
}

fn labelled(mut object: Value, mode: &str) -> Value {
    object["metadata"]["labels"] = json!({ "headstart.dev/prefetch": mode, "app": "web" });
    object
}

fn complete(mut object: Value) -> Value {
    object["spec"]["replicas"] = json!(1);
    object["status"] = json!({ "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1 });
    object["metadata"]["generation"] = json!(1);
    object
}

#[tokio::test]
async fn a_create_in_a_namespace_that_holds_is_paused_and_noted() {
    let served = serve_with_holds();
    let object = deployment("app:1");
    let review = review_of("CREATE", &object, &Value::Null);
    let (patched, response) = admitted(&served, HOLD, &review).await;
    let held = held(&patched).unwrap();
    assert!(held.paused);
    let lasts = held.until.unwrap().duration_since(held.since.unwrap());
    assert_eq!(lasts, SignedDuration::from_mins(5));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("held until"), "{warning}");
    assert!(served.noted(&object));
}

#[tokio::test]
async fn the_deployments_own_label_wins_over_the_path() {
    let served = serve_with_holds();
    for (path, mode, waits) in [
        (HOLD, "enabled", false),
        (MUTATE, "hold", true),
        (MUTATE, "enabled", false),
        (HOLD, "disabled", false),
        (HOLD, "hodl", false),
    ] {
        let object = labelled(deployment("app:1"), mode);
        let review = review_of("CREATE", &object, &Value::Null);
        let (patched, _) = admitted(&served, path, &review).await;
        assert_eq!(held(&patched).is_some(), waits, "{path} {mode}");
    }
}

#[tokio::test]
async fn an_update_waits_if_the_rollout_before_is_complete() {
    let served = serve_with_holds();
    let (old, new) = (deployment("app:1"), deployment("app:2"));
    let fix = review_of("UPDATE", &new, &old);
    let (patched, response) = admitted(&served, HOLD, &fix).await;
    assert_eq!(held(&patched), None);
    assert!(response.get("patch").is_none() && response.get("patchType").is_none());
    let update = review_of("UPDATE", &new, &complete(old));
    let (patched, _) = admitted(&served, HOLD, &update).await;
    assert!(held(&patched).is_some());
}

#[tokio::test]
async fn a_dry_run_shows_the_hold_and_is_not_noted() {
    let served = serve_with_holds();
    let object = deployment("app:1");
    let mut review = review_of("CREATE", &object, &Value::Null);
    review["request"]["dryRun"] = json!(true);
    let (patched, response) = admitted(&served, HOLD, &review).await;
    assert!(held(&patched).is_some_and(|held| held.paused));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("held until"), "{warning}");
    assert!(!served.noted(&object));
}

#[tokio::test]
async fn a_change_of_something_else_is_not_patched() {
    let served = serve_with_holds();
    let object = deployment("app:1");
    let mut scaled = object.clone();
    scaled["spec"]["replicas"] = json!(7);
    let review = review_of("UPDATE", &scaled, &complete(object));
    let (_, response) = admitted(&served, HOLD, &review).await;
    assert!(response.get("patch").is_none(), "{response}");
}

#[tokio::test]
async fn without_the_namespaces_consent_there_is_a_warning_and_nothing_else() {
    let served = serve_with_holds();
    for mode in ["enabled", "hold"] {
        let object = labelled(deployment("app:1"), mode);
        let review = review_of("CREATE", &object, &Value::Null);
        let (patched, response) = admitted(&served, WITHOUT_CONSENT, &review).await;
        assert_eq!(patched, object);
        let warning = response["warnings"][0].as_str().unwrap();
        let command = "kubectl label namespace shop headstart.dev/prefetch=allowed";
        assert!(warning.contains(command), "{warning}");
        assert!(!served.noted(&object));
    }
    for object in [
        deployment("app:1"),
        labelled(deployment("app:1"), "disabled"),
    ] {
        let review = review_of("CREATE", &object, &Value::Null);
        let (_, response) = admitted(&served, WITHOUT_CONSENT, &review).await;
        assert!(response.get("warnings").is_none(), "{response}");
    }
    let object = labelled(deployment("app:1"), "hold");
    let mut system = review_of("CREATE", &object, &Value::Null);
    system["request"]["namespace"] = json!("kube-system");
    let (_, response) = admitted(&served, WITHOUT_CONSENT, &system).await;
    assert!(response.get("warnings").is_none(), "{response}");
}

#[tokio::test]
async fn switched_off_nothing_waits() {
    let served = serve();
    let review = review_of("CREATE", &deployment("app:1"), &Value::Null);
    let (patched, _) = admitted(&served, HOLD, &review).await;
    assert_eq!(held(&patched), None);
}

#[tokio::test]
async fn one_without_a_name_yet_waits_too() {
    let served = serve_with_holds();
    let mut object = deployment("app:1");
    object["metadata"] = json!({ "generateName": "web-", "namespace": "shop" });
    let mut review = review_of("CREATE", &object, &Value::Null);
    review["request"]["name"] = json!("");
    let (patched, _) = admitted(&served, HOLD, &review).await;
    assert!(held(&patched).is_some());
}

#[tokio::test]
async fn nothing_is_held_where_nobody_looks() {
    let served = serve_looking_at(&["market".to_owned()]);
    let review = review_of("CREATE", &deployment("app:1"), &Value::Null);
    let (patched, _) = admitted(&served, HOLD, &review).await;
    assert_eq!(held(&patched), None);
}

/// Returns the object with the managed fields of a manager that owns `spec.paused`, as an API server writes them.
fn paused_by(mut object: Value, operation: &str) -> Value {
    object["metadata"]["managedFields"] = json!([
        { "manager": "other", "operation": "Update", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
        { "manager": "me", "operation": operation, "fieldsV1": { "f:spec": { "f:paused": {} } } },
    ]);
    object
}

#[tokio::test]
async fn a_fix_during_a_hold_leaves_the_pause_of_another_client() {
    let served = serve_with_holds();
    let created = review_of("CREATE", &deployment("app:1"), &Value::Null);
    let (old, _) = admitted(&served, "/hold", &created).await;
    let mut failing = old;
    failing["status"] = json!({ "replicas": 2, "unavailableReplicas": 1, "observedGeneration": 1 });
    let mut new = failing.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:2");
    let applied = |text: &str| {
        let mut new = new.clone();
        let annotations = new["metadata"]["annotations"].as_object_mut().unwrap();
        let key = headstart_core::hold::LAST_APPLIED;
        annotations.insert(key.into(), json!(text));
        new
    };
    let mut by_reloader = new.clone();
    by_reloader["metadata"]["annotations"][headstart_core::hold::PAUSER_ANNOTATIONS[0]] =
        json!("2026-01-01T00:00:00Z");
    for (what, object, stays_paused) in [
        ("headstart's", new.clone(), false),
        ("server-side apply", paused_by(new.clone(), "Apply"), true),
        ("a patch", paused_by(new.clone(), "Update"), true),
        (
            "client-side apply",
            applied(r#"{"spec":{"paused":true}}"#),
            true,
        ),
        (
            "applied without",
            applied(r#"{"spec":{"paused":false}}"#),
            false,
        ),
        ("applied nonsense", applied(r#"{"spec""#), false),
        ("Reloader's", by_reloader, true),
    ] {
        let review = review_of("UPDATE", &object, &failing);
        let (patched, _) = admitted(&served, "/hold", &review).await;
        assert_eq!(held(&patched), None, "{what}");
        let paused = patched["spec"]["paused"] == true;
        assert_eq!(paused, stays_paused, "{what}");
    }
}

#[tokio::test]
async fn nothing_is_held_where_another_client_says_that_it_does_not_pause() {
    let served = serve_with_holds();
    // Server-side apply of `paused: false` owns the field, which is then not in the object.
    let object = paused_by(deployment("app:1"), "Apply");
    let review = review_of("CREATE", &object, &Value::Null);
    let (patched, response) = admitted(&served, "/hold", &review).await;
    assert_eq!(held(&patched), None);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("not held"), "{warning}");
    let mut copy = deployment("app:1");
    copy["metadata"]["managedFields"] = json!([{ "fieldsV1": {
        "f:metadata": { "f:labels": { "f:headstart.dev/held": {} } }, "f:spec": { "f:paused": {} },
    } }]);
    let review = review_of("CREATE", &copy, &Value::Null);
    let (patched, _) = admitted(&served, "/hold", &review).await;
    assert!(held(&patched).is_some(), "a copy of a held Deployment");
}

#[tokio::test]
async fn nothing_is_held_without_a_leader_and_the_answer_says_so() {
    let served = serve_behind(HoldGate::default(), &[]);
    let object = deployment("app:1");
    let review = review_of("CREATE", &object, &Value::Null);
    let (patched, response) = admitted(&served, HOLD, &review).await;
    assert_eq!(patched, object);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("no replica of headstart leads"),
        "{warning}"
    );
    assert!(served.noted(&object), "it is prefetched all the same");
    let same = review_of("UPDATE", &object, &complete(object.clone()));
    let (_, response) = admitted(&served, HOLD, &same).await;
    assert!(response.get("warnings").is_none(), "{response}");
}

#[tokio::test]
async fn a_replica_that_stops_ends_the_hold_that_a_write_would_extend() {
    let gate = HoldGate::just_renewed();
    let served = serve_behind(gate.clone(), &[]);
    let review = review_of("CREATE", &deployment("app:1"), &Value::Null);
    let (first, _) = admitted(&served, HOLD, &review).await;
    let mut other = first.clone();
    other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:2");
    let update = review_of("UPDATE", &other, &first);
    let (extended, _) = admitted(&served, HOLD, &update).await;
    assert!(held(&extended).is_some_and(|held| held.paused));
    gate.stop();
    let (ended, response) = admitted(&served, HOLD, &update).await;
    assert_eq!(held(&ended), None);
    assert!(ended["spec"].get("paused").is_none());
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("is stopping"), "{warning}");
}
