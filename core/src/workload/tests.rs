use super::*;
use crate::image::UnsupportedReason;
use crate::limits::{ITEMS, MAX_IMAGES, MAX_UNSUPPORTED};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::testing::workload;

fn given(workload: &Workload) -> Vec<&str> {
    workload
        .images
        .iter()
        .map(|image| &*image.as_written)
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
    assert_eq!(
        rolling.selector_for_starting_pods().unwrap().to_string(),
        "app=web"
    );
    assert!(
        rolling.selector_for_max_nodes().is_none(),
        "the plan does not ask"
    );
    let through = json!({
        "observedGeneration": 2,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
    });
    for change in [
        json!({"spec": {"replicas": 0}}),
        json!({"spec": {"paused": true}}),
        json!({ "status": through }),
    ] {
        assert!(
            web(change.clone()).selector_for_starting_pods().is_none(),
            "{change}"
        );
    }
    let limited =
        json!({"metadata": {"annotations": {"headstart.dev/max-nodes": "3"}}, "status": through});
    let limited = web(limited);
    assert!(
        limited.selector_for_max_nodes().is_some()
            && limited.selector_for_starting_pods().is_none()
    );
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
    assert!(web.pod_pulls_all(&pod(&["mesh:1", "docker.io/library/app:2", "init:1"])));
    assert!(!web.pod_pulls_all(&pod(&["app:2"])));
    assert!(!web.pod_pulls_all(&pod(&["init:1", "app:1"])));
}

#[test]
fn what_must_not_or_cannot_be_pulled_is_left_out() {
    let web = workload(json!({"containers": [
        {"name": "a", "image": "app:1", "imagePullPolicy": "Never"},
        {"name": "b", "image": "Not Valid"},
        {"name": "c"},
    ]}));
    assert!(web.images.is_empty());
    assert_eq!(web.unsupported.images.len(), 1);
    assert_eq!(web.unsupported.images[0].as_written, "Not Valid");
}

#[test]
fn more_images_than_the_limit_are_refused_by_name() {
    let web = workload(containers((0..500).map(|i| format!("app:{i}"))));
    assert_eq!(web.images.len(), MAX_IMAGES);
    assert_eq!(web.unsupported.images.len(), MAX_UNSUPPORTED);
    assert_eq!(web.unsupported.images[0].as_written, "app:64");
    assert_eq!(web.unsupported.images[0].reason, UnsupportedReason::TooMany);
    assert_eq!(web.unsupported.more, 500 - MAX_IMAGES - MAX_UNSUPPORTED);
}

fn containers(images: impl Iterator<Item = String>) -> serde_json::Value {
    let containers = images.map(|image| json!({"name": "c", "image": image}));
    json!({"containers": containers.collect::<Vec<_>>()})
}

#[test]
fn containers_behind_those_that_are_read_are_refused_unless_they_repeat() {
    let same = workload(containers((0..1000).map(|i| format!("app:{}", i % 3))));
    assert_eq!((same.images.len(), same.unsupported.images.len()), (3, 0));
    let last = |tag: &str| {
        let all = (0..ITEMS).map(|_| "app:1".to_owned());
        workload(containers(all.chain([format!("app:{tag}")])))
    };
    let two = last("2");
    assert_eq!(two.images.len(), 1);
    assert_eq!(two.unsupported.images[0].reason, UnsupportedReason::Unread);
    assert_ne!(two.image_set, last("3").image_set);
    assert_ne!(two.image_set, last("1").image_set);
}

/// Images that are not kept count too: another of them is another set.
#[test]
fn the_revision_follows_images_that_are_not_kept() {
    let bad = |last: &str| {
        let all = (0..100).map(|i| format!("Not Valid {i}"));
        workload(containers(all.chain([last.to_owned()])))
    };
    let (one, two) = (bad("Not Valid x"), bad("Not Valid y"));
    assert_eq!(
        (one.unsupported.images.len(), one.unsupported.more),
        (MAX_UNSUPPORTED, 93)
    );
    assert_ne!(one.image_set, two.image_set);
    assert_eq!(one.image_set, bad("Not Valid x").image_set);
    let long = |last: &str| {
        workload(containers(
            [format!("{}{last}", "a".repeat(5000))].into_iter(),
        ))
    };
    let (one, two) = (long("x"), long("y"));
    assert_eq!(
        one.unsupported, two.unsupported,
        "only the beginning is kept"
    );
    assert!(one.unsupported.images[0].as_written.len() <= 200);
    assert_ne!(one.image_set, two.image_set);
}

#[test]
fn an_image_that_an_injector_puts_in_is_passed_over_in_silence() {
    let web = workload(containers(["auto", "app:1"].map(str::to_owned).into_iter()));
    assert_eq!(given(&web), ["app:1"]);
    assert!(web.unsupported.images.is_empty());
}

#[test]
fn a_reference_is_kept_once_where_it_is_written_in_full() {
    let web = workload(containers(
        ["docker.io/library/app:1", "app:2"]
            .map(str::to_owned)
            .into_iter(),
    ));
    let shared = |image: &Image| std::sync::Arc::ptr_eq(&image.as_written, image.reference.text());
    assert!(shared(&web.images[0]) && !shared(&web.images[1]));
}

#[test]
fn what_is_too_large_is_reduced_to_what_names_it_and_ends_its_hold() {
    let tolerations = vec![json!({"key": "a", "operator": "Exists"}); 65];
    let secrets = vec![json!({"name": "a"}); 17];
    let affinity = |terms: serde_json::Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let condition =
        |values: usize| json!({"key": "a", "operator": "In", "values": vec!["b"; values]});
    let term = |conditions: usize| json!({"matchExpressions": vec![condition(1); conditions]});
    let labels: BTreeMap<String, String> = (0..500)
        .map(|i| (format!("key-{i}"), "value".to_owned()))
        .collect();
    let long: Vec<_> = (0..64)
        .map(|i| json!({"image": format!("registry.example/{}:{i}", "a".repeat(250))}))
        .collect();
    let table = [
        (
            json!({"tolerations": tolerations}),
            "more than 64 tolerations",
        ),
        (
            json!({"imagePullSecrets": secrets}),
            "more than 16 imagePullSecrets",
        ),
        (
            json!({"affinity": affinity(json!(vec![term(1); 33]))}),
            "more than 32 terms",
        ),
        (
            json!({"affinity": affinity(json!([term(33)]))}),
            "32 conditions in a term",
        ),
        (
            json!({"affinity": affinity(json!([{"matchFields": [condition(65)]}]))}),
            "64 values in a condition",
        ),
        (json!({"nodeSelector": labels}), "more than 16384 bytes"),
        (json!({"containers": long}), "more than 16384 bytes"),
    ];
    for (spec, limit) in table {
        let mut object = json!({
            "metadata": {
                "namespace": "shop", "name": "web", "uid": "1",
                "labels": {"headstart.dev/held": "true"},
                "annotations": {"headstart.dev/held-until": "2026-01-01T00:00:00Z", "headstart.dev/max-nodes": "no"},
            },
            "spec": {"paused": true, "selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}}},
        });
        json_patch::merge(&mut object["spec"]["template"]["spec"], &spec);
        let web = Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap();
        let why = web.too_large.expect(limit);
        assert!(why.to_string().contains(limit), "{why}");
        assert_eq!(web.uid, "1");
        assert!(
            web.state
                .held
                .is_some_and(|held| held.paused && held.until.is_some())
        );
        assert!(web.images.is_empty() && web.unsupported.images.is_empty());
        assert_eq!(web.constraints, SchedulingConstraints::default());
        assert_eq!(web.annotations, Annotations::default());
    }
}

#[test]
fn sixty_four_images_with_ordinary_names_are_not_too_large() {
    let images = (0..64).map(|i| {
        format!(
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/component-{i}:v1.27.3-build.{i}"
        )
    });
    let web = workload(containers(images));
    assert_eq!((web.too_large, web.images.len()), (None, 64));
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
    assert_eq!(one.image_set, swapped.image_set);
    assert_ne!(one.image_set, other.image_set);
}

#[test]
fn a_rollout_is_recent_until_it_settled_longer_than_the_window_ago() {
    let at = |status: serde_json::Value| {
        rollout_of(
            Some(2),
            1,
            None,
            Some(&serde_json::from_value(status).unwrap()),
        )
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
    assert_ne!(web.image_set, deployment("").image_set);
    let invalid = deployment("runner:3, Not Valid");
    assert_eq!(given(&invalid), ["app:1"]);
    assert_eq!(invalid.annotations.invalid.len(), 1);
}
