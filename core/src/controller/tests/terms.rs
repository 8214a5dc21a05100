//! Credentials, placement, and refresh.

use super::kubelet::*;
use super::world::*;
use crate::controller::ControllerConfig;
use crate::controller::command::CommandResult;
use crate::event::EventReason;
use crate::testing::settings;
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

fn account(name: &str) -> Value {
    json!({"spec": {"template": {"spec": {"serviceAccountName": name}}}})
}

fn with_account() -> World {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(merged(web("web", &["a:1"]), &account("builder")));
    assert!(
        world.take_creates().is_empty(),
        "its pull secrets are not known"
    );
    world
}

#[test]
fn pods_name_the_pull_secrets_of_the_service_account() {
    let mut world = with_account();
    world.answer_secrets(&["registry"]);
    for pod in world.create_all() {
        let secrets = pod.spec.unwrap().image_pull_secrets.unwrap();
        assert_eq!(secrets[0].name, "registry");
    }
}

#[test]
fn pods_are_created_without_secrets_that_cannot_be_read() {
    let mut world = with_account();
    world.fail_secrets();
    assert_eq!(world.create_all().len(), 2);
}

#[test]
fn a_registry_that_refuses_the_credentials_has_the_account_read_again() {
    let mut world = with_account();
    world.answer_secrets(&[]);
    let pods = world.create_all();
    world.advance(secs(2));
    world.fail_pulls(&pods, UNAUTHORIZED);
    world.answer_secrets(&["late"]);
    assert_eq!(world.pending(), 2, "what failed is tried again");
}

#[test]
fn other_pull_secrets_let_failed_nodes_try_again() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.fail_pulls(&pods, UNAUTHORIZED);
    assert_eq!(world.pending(), 0);
    world.advance(secs(5));
    let secret =
        json!({"spec": {"template": {"spec": {"imagePullSecrets": [{"name": "registry"}]}}}});
    world.deploy(merged(web("web", &["a:1"]), &secret));
    assert_eq!(world.pending(), 1);
    assert_eq!(world.take_deletes().len(), 1, "the pod by the same name");
}

#[test]
fn another_node_selector_removes_what_is_not_begun_and_adds_what_is_new() {
    let mut world = World::with(ControllerConfig {
        max_writes: 1,
        ..config()
    });
    for name in ["a1", "a2", "b1"] {
        world.node_with(name, &json!({"metadata": {"labels": {"pool": &name[..1]}}}));
    }
    let pool =
        |pool: &str| json!({"spec": {"template": {"spec": {"nodeSelector": {"pool": pool}}}}});
    world.deploy(merged(web("web", &["a:1"]), &pool("a")));
    let first = world.create_all();
    assert_eq!(nodes_of(&first), ["a1"]);
    world.commands.clear();
    world.deploy(merged(web("web", &["a:1"]), &pool("b")));
    world.advance(secs(1));
    assert_eq!(
        world.pending(),
        3,
        "a create for a2 is in flight; b1 is new"
    );
}

#[test]
fn terms_that_leave_only_decided_nodes_finish_the_prefetch() {
    let mut world = World::new();
    for name in ["a1", "b1"] {
        world.node_with(name, &json!({"metadata": {"labels": {"pool": &name[..1]}}}));
    }
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    let of_a: Vec<_> = pods
        .iter()
        .filter(|pod| node_of(pod) == "a1")
        .cloned()
        .collect();
    let of_b: Vec<_> = pods
        .iter()
        .filter(|pod| node_of(pod) == "b1")
        .cloned()
        .collect();
    world.pull(&of_a);
    world.reject(&of_b);
    assert!(world.take_events(EventReason::Prefetched).is_empty());
    let pool = json!({"spec": {"template": {"spec": {"nodeSelector": {"pool": "a"}}}}});
    world.deploy(merged(web("web", &["a:1"]), &pool));
    assert_eq!(world.take_events(EventReason::Prefetched).len(), 1);
    assert_eq!(world.pending(), 0);
}

#[test]
fn an_invalid_annotation_is_reported() {
    let mut world = World::new();
    world.nodes(1);
    let wrong = json!({"metadata": {"annotations": {"headstart.dev/refresh": "often"}}});
    world.deploy(merged(web("web", &["a:1"]), &wrong));
    assert_eq!(world.take_events(EventReason::InvalidAnnotation).len(), 1);
}

#[test]
fn images_that_cannot_be_prefetched_are_reported_and_the_others_pulled() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1", "Not Valid"]));
    assert_eq!(world.take_events(EventReason::ImageNotPrefetched).len(), 1);
    assert_eq!(image_count(&world.create_all()[0]), 1);
}

#[test]
fn refresh_pulls_again_what_is_old() {
    let mut world = World::with(ControllerConfig {
        refresh: Some(SignedDuration::from_hours(1)),
        ..config()
    });
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    world.advance(secs(3590));
    assert!(world.commands.is_empty());
    world.advance(secs(600));
    assert_eq!(
        world.take_deletes().len(),
        2,
        "the pods of the last refresh go first"
    );
}

#[test]
fn a_refresh_that_is_configured_later_is_scheduled() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    world.run_to_end();
    let refresh = json!({"metadata": {"annotations": {"headstart.dev/refresh": "1h"}}});
    world.deploy(merged(web("web", &["a:1"]), &refresh));
    world.advance(secs(4200));
    assert_eq!(world.take_deletes().len(), 1);
}

#[test]
fn with_the_workloads_own_account_no_account_is_read() {
    let mut pods = settings();
    pods.run_as = crate::pod::RunAs::Workload;
    let mut world = World::with(ControllerConfig {
        pods: pods.into(),
        ..config()
    });
    world.nodes(1);
    world.deploy(merged(web("web", &["a:1"]), &account("builder")));
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn each_node_is_refreshed_once_when_its_time_has_come() {
    let mut world = World::with(ControllerConfig {
        refresh: Some(SignedDuration::from_hours(1)),
        ..config()
    });
    world.nodes(3);
    world.deploy(web("web", &["a:1"]));
    let first = world.create_all();
    world.pull(&first);
    world.advance(secs(3590));
    assert!(world.commands.is_empty(), "not before their time");
    let mut again = Vec::new();
    // The nodes are spread over a tenth of the time.
    for _ in 0..60 {
        world.advance(secs(10));
        for (id, _) in world.take_deletes() {
            world.finish(id, CommandResult::PodDeleted(Ok(())));
        }
        let pods = world.create_all();
        world.pull(&pods);
        again.extend(pods);
    }
    assert_eq!(nodes_of(&again), nodes_of(&first));
    assert_eq!(world.pending(), 0);
}
