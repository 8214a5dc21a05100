use super::*;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// The Deployment `shop/web` with this pod spec.
pub(crate) fn workload(spec: serde_json::Value) -> Workload {
    let deployment = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "web", "generation": 2},
        "spec": {"selector": {}, "template": {"spec": spec}},
    }))
    .unwrap();
    Workload::from_deployment(&deployment).unwrap()
}

fn given(workload: &Workload) -> Vec<&str> {
    workload
        .images
        .iter()
        .map(|image| image.given.as_str())
        .collect()
}

#[test]
fn each_image_counts_once_in_the_order_that_a_pod_pulls_them() {
    let web = workload(json!({
        "initContainers": [{"name": "i", "image": "init:1"}],
        "containers": [
            {"name": "a", "image": "app:1"},
            {"name": "b", "image": "docker.io/library/app:1", "imagePullPolicy": "Always"},
        ],
        "volumes": [{"name": "v", "image": {"reference": "data:1"}}, {"name": "e", "emptyDir": {}}],
    }));
    assert_eq!(given(&web), ["init:1", "app:1", "data:1"]);
    assert!(
        web.images[1].always,
        "one container of two always asks the registry"
    );
}

#[test]
fn pods_may_be_starting_until_the_rollout_is_through() {
    let web = |spec: serde_json::Value| {
        let mut object = json!({
            "metadata": {"namespace": "shop", "name": "web", "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {"containers": []}}},
        });
        json_patch::merge(&mut object, &spec);
        Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap()
    };
    let rolling = web(json!({}));
    assert_eq!(rolling.racing().unwrap().to_string(), "app=web");
    assert!(rolling.surveyed().is_none(), "the plan does not ask");
    let through = json!({
        "observedGeneration": 2,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
    });
    for change in [
        json!({"spec": {"replicas": 0}}),
        json!({"spec": {"paused": true}}),
        json!({ "status": through }),
    ] {
        assert!(web(change.clone()).racing().is_none(), "{change}");
    }
    let limited =
        json!({"metadata": {"annotations": {"headstart.dev/max-nodes": "3"}}, "status": through});
    let limited = web(limited);
    assert!(limited.surveyed().is_some() && limited.racing().is_none());
}

#[test]
fn a_pod_brings_what_it_names_and_an_older_one_does_not() {
    let pod = |images: &[&str]| {
        let containers = images
            .iter()
            .map(|image| json!({"name": "c", "image": image}));
        let containers: Vec<_> = containers.collect();
        serde_json::from_value::<PodSpec>(json!({ "containers": containers })).unwrap()
    };
    let web = workload(json!({
        "initContainers": [{"name": "i", "image": "init:1"}],
        "containers": [{"name": "a", "image": "app:2"}],
    }));
    assert!(web.is_brought_by(&pod(&["mesh:1", "docker.io/library/app:2", "init:1"])));
    assert!(!web.is_brought_by(&pod(&["app:2"])));
    assert!(!web.is_brought_by(&pod(&["init:1", "app:1"])));
}

#[test]
fn what_must_not_or_cannot_be_pulled_is_left_out() {
    let web = workload(json!({"containers": [
        {"name": "a", "image": "app:1", "imagePullPolicy": "Never"},
        {"name": "b", "image": "Not Valid"},
        {"name": "c"},
    ]}));
    assert!(web.images.is_empty());
    assert_eq!(web.refused.len(), 1);
    assert_eq!(web.refused[0].given, "Not Valid");
}

#[test]
fn more_images_than_the_limit_are_refused_by_name() {
    let containers: Vec<_> = (0..500)
        .map(|i| json!({"name": format!("c{i}"), "image": format!("app:{i}")}))
        .collect();
    let web = workload(json!({"containers": containers}));
    assert_eq!(web.images.len(), MAX_IMAGES);
    assert_eq!(web.refused.len(), 500 - MAX_IMAGES);
    assert_eq!(web.refused[0].reason, Refusal::TooMany);
}

#[test]
fn the_revision_follows_the_images_and_nothing_else() {
    let one =
        workload(json!({"containers": [{"name": "a", "image": "a"}, {"name": "b", "image": "b"}]}));
    let swapped = workload(json!({
        "containers": [{"name": "a", "image": "b:latest"}, {"name": "b", "image": "a"}],
        "nodeSelector": {"pool": "web"},
    }));
    let other = workload(
        json!({"containers": [{"name": "a", "image": "a"}, {"name": "b", "image": "b:2"}]}),
    );
    assert_eq!(one.revision, swapped.revision);
    assert_ne!(one.revision, other.revision);
}

#[test]
fn a_rollout_is_recent_until_it_settled_longer_than_the_window_ago() {
    let at = |status: serde_json::Value| {
        rollout_of(Some(2), 1, &serde_json::from_value(status).unwrap())
    };
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let window = SignedDuration::from_mins(5);
    let condition = |reason: &str, time: &str| json!([{"type": "Progressing", "status": "True", "reason": reason, "lastUpdateTime": time}]);
    let recent = |generation: i64, reason: &str, time: &str| {
        at(json!({"observedGeneration": generation, "conditions": condition(reason, time)}))
            .is_recent(now, window)
    };
    assert!(at(json!({})).is_recent(now, window), "no status yet");
    assert!(
        recent(2, "ReplicaSetUpdated", "2026-01-01T00:00:00Z"),
        "still under way"
    );
    assert!(
        recent(2, "NewReplicaSetAvailable", "2026-01-01T00:06:00Z"),
        "complete within the window"
    );
    assert!(
        !recent(2, "NewReplicaSetAvailable", "2026-01-01T00:04:00Z"),
        "complete before it"
    );
    assert!(
        recent(1, "NewReplicaSetAvailable", "2026-01-01T00:04:00Z"),
        "a newer template is not observed yet"
    );
    assert!(
        !recent(2, "ProgressDeadlineExceeded", "2026-01-01T00:04:00Z"),
        "given up"
    );
}

#[test]
fn images_of_the_annotation_count_as_the_templates_do() {
    let deployment = |images: &str| {
        let deployment = serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "web", "annotations": {"headstart.dev/images": images}},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}}},
        }));
        Workload::from_deployment(&deployment.unwrap()).unwrap()
    };
    let web = deployment("runner:3, app:1");
    assert_eq!(given(&web), ["app:1", "runner:3"]);
    assert_ne!(web.revision, deployment("").revision);
    let malformed = deployment("runner:3, Not Valid");
    assert_eq!(given(&malformed), ["app:1"]);
    assert_eq!(malformed.annotations.malformed.len(), 1);
}
