//! Which pods are created, in which order and within which limits.

use super::kubelet::*;
use super::world::*;
use crate::controller::command::{CommandResult, CreatePermission, Event, EventRecord};
use crate::controller::{ControllerConfig, PullLimits};
use crate::event::EventReason;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

#[test]
fn every_eligible_node_gets_one_pod_with_all_images() {
    let mut world = World::new();
    world.nodes(3);
    world.node_with(
        "windows",
        &json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}}),
    );
    world.deploy(web("web", &["a:1", "b:1"]));
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["n001", "n002", "n003"]);
    assert!(pods.iter().all(|pod| image_count(pod) == 2));
    assert_eq!(world.take_events(EventReason::PrefetchStarted).len(), 1);
    world.pull(&pods);
    let notes = world.take_events(EventReason::Prefetched);
    assert!(notes[0].starts_with("2 images on 3 nodes"), "{notes:?}");
    assert_eq!(world.pending(), 0);
}

#[test]
fn nothing_is_created_before_it_is_known_whether_pods_may_be() {
    let mut world = World::new();
    world.apply(Event::PermissionChanged(CreatePermission::Unknown));
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    assert!(world.take_creates().is_empty());
    world.apply(Event::PermissionChanged(CreatePermission::Granted));
    assert_eq!(world.take_creates().len(), 2);
}

#[test]
fn a_missing_permission_is_reported_once_and_asked_for_again() {
    let mut world = World::new();
    world.apply(Event::PermissionChanged(CreatePermission::Refused(
        "policies".into(),
    )));
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let notes = world.take_events(EventReason::PrefetchBlocked);
    assert!(
        notes.len() == 1 && notes[0].contains("policies"),
        "{notes:?}"
    );
    world.apply(Event::PermissionChanged(CreatePermission::Granted));
    world.advance(secs(30));
    assert_eq!(world.take_creates().len(), 2);
}

#[test]
fn nodes_that_report_the_images_get_no_pod() {
    let mut world = World::new();
    let reports = json!({"status": {"images": [{"names": ["docker.io/library/a:1"]}]}});
    world.node_with("has", &reports);
    world.node("lacks");
    world.deploy(web("web", &["a:1"]));
    assert_eq!(nodes_of(&world.create_all()), ["lacks"]);
}

#[test]
fn a_namespace_that_is_not_enabled_gets_nothing() {
    let mut world = World::new();
    world.nodes(2);
    let mut other = web("web", &["a:1"]);
    other["metadata"]["namespace"] = json!("other");
    world.deploy(other.clone());
    assert!(world.take_creates().is_empty());
    world.namespace("other", "enabled");
    assert_eq!(world.take_creates().len(), 2);
}

#[test]
fn a_rollout_of_long_ago_is_not_prefetched() {
    let mut world = World::new();
    world.nodes(2);
    let old = json!({"status": settled(1_700_000_000)});
    world.deploy(merged(web("web", &["a:1"]), &old));
    assert!(world.take_creates().is_empty());
}

#[test]
fn a_large_plan_begins_with_a_canary_of_two_and_goes_on_after_two_seconds() {
    let mut world = World::new();
    world.nodes(20);
    world.deploy(web("web", &["a:1"]));
    assert_eq!(world.create_all().len(), 2);
    world.advance(secs(1));
    assert!(world.take_creates().is_empty());
    world.advance(secs(1));
    assert_eq!(world.create_all().len(), 18);
}

#[test]
fn one_node_with_all_images_ends_the_canary() {
    let mut world = World::new();
    world.nodes(20);
    world.deploy(web("web", &["a:1"]));
    let canary = world.create_all();
    world.pull(&canary[..1]);
    assert_eq!(world.take_creates().len(), 18);
}

#[test]
fn a_missing_tag_costs_only_the_canary_and_a_heal_lets_the_rest_go_on() {
    let mut world = World::new();
    world.nodes(20);
    world.deploy(web("web", &["a:1"]));
    let canary = world.create_all();
    world.fail_pulls(&canary, NOT_FOUND);
    world.advance(secs(60));
    assert!(world.take_creates().is_empty());
    let notes = world.take_events(EventReason::PrefetchFailed);
    assert!(
        notes.len() == 1 && notes[0].contains("18 nodes not tried"),
        "{notes:?}"
    );
    world.pull(&canary[..1]);
    assert_eq!(world.take_creates().len(), 18);
}

/// Returns a world with ten nodes of each of two architectures.
fn with_two_architectures() -> World {
    let mut world = World::new();
    world.nodes(10);
    for index in 0..10 {
        let arm = json!({"metadata": {"labels": {"kubernetes.io/arch": "arm64"}}});
        world.node_with(&format!("arm{index}"), &arm);
    }
    world
}

#[test]
fn a_wrong_platform_stops_the_nodes_of_its_architecture_only() {
    let mut world = with_two_architectures();
    world.deploy(web("web", &["a:1"]));
    let (arm, amd): (Vec<Pod>, Vec<Pod>) = world
        .create_all()
        .into_iter()
        .partition(|pod| node_of(pod).starts_with("arm"));
    assert_eq!((arm.len(), amd.len()), (2, 2));
    world.fail_pulls(&arm, WRONG_PLATFORM);
    world.advance(secs(2));
    let rest = world.create_all();
    assert_eq!(rest.len(), 8);
    assert!(rest.iter().all(|pod| node_of(pod).starts_with('n')));
}

#[test]
fn a_new_leader_counts_the_pods_that_it_finds_as_the_canary() {
    let mut world = World::new();
    world.nodes(20);
    world.deploy(web("web", &["a:1"]));
    assert_eq!(world.create_all().len(), 2);
    let mut world = world.new_leader(config());
    assert!(world.take_creates().is_empty());
    world.advance(secs(2));
    assert_eq!(world.create_all().len(), 18);
}

fn limited(limits: PullLimits) -> World {
    World::with(ControllerConfig { limits, ..config() })
}

#[test]
fn no_more_nodes_pull_at_once_than_the_cluster_allows() {
    let mut world = limited(PullLimits {
        nodes: 2,
        ..PullLimits::default()
    });
    world.nodes(5);
    world.deploy(web("web", &["a:1"]));
    let mut created = 0;
    while created < 5 {
        let pods = world.create_all();
        let pulling = world.controller.stats(world.now.monotonic).pulling;
        assert!(pulling <= 2 && !pods.is_empty(), "{pulling} pull");
        created += pods.len();
        // The canary of one more pod begins when the slots are free.
        world.pull(&pods);
    }
    assert_eq!((created, world.pending()), (5, 0));
}

#[test]
fn a_deployment_that_waits_for_a_node_goes_on_when_its_slot_is_free() {
    let mut world = limited(PullLimits {
        per_node: 1,
        ..PullLimits::default()
    });
    world.nodes(1);
    world.deploy(web("first", &["a:1"]));
    world.deploy(web("second", &["b:1"]));
    let first = world.create_all();
    assert_eq!(first.len(), 1);
    world.pull(&first);
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn a_busy_registry_holds_up_only_its_own_images() {
    let mut world = limited(PullLimits {
        per_registry: 1,
        ..PullLimits::default()
    });
    world.nodes(2);
    world.deploy(web("busy", &["r1.test/a:1"]));
    world.deploy(web("free", &["r2.test/a:1"]));
    let pods = world.create_all();
    assert_eq!(pods.len(), 2, "one pull of each registry");
    world.pull(&pods);
    let more = world.create_all();
    assert_eq!(more.len(), 2);
}

#[test]
fn creates_take_turns_over_namespaces() {
    let mut world = World::with(ControllerConfig {
        max_writes: 4,
        ..config()
    });
    world.nodes(5);
    world.namespace("many", "enabled");
    world.apply(Event::PermissionChanged(CreatePermission::Unknown));
    for index in 0..10 {
        let image = format!("a{index}:1");
        let mut one = web(&format!("web-{index}"), &[&image]);
        one["metadata"]["namespace"] = json!("many");
        world.deploy(one);
    }
    world.deploy(web("web", &["a:1"]));
    world.apply(Event::PermissionChanged(CreatePermission::Granted));
    let pods = world.create_all();
    let of_shop = |pod: &&Pod| pod.metadata.namespace.as_deref() == Some("shop");
    assert_eq!((pods.len(), pods.iter().filter(of_shop).count()), (4, 2));
}

#[test]
fn no_more_creates_are_in_flight_than_allowed() {
    let mut world = World::with(ControllerConfig {
        max_writes: 3,
        ..config()
    });
    world.nodes(8);
    world.deploy(web("web", &["a:1"]));
    let creates = world.take_creates();
    assert_eq!(creates.len(), 3);
    for (id, pod) in creates {
        world.store_pod(id, pod);
    }
    assert_eq!(world.take_creates().len(), 3);
}

#[test]
fn a_small_deployment_that_comes_last_is_done_early() {
    let mut world = World::with(ControllerConfig {
        max_writes: 4,
        ..config()
    });
    world.nodes(8);
    world.namespace("many", "enabled");
    for index in 0..20 {
        let image = format!("a{index}:1");
        let mut one = web(&format!("web-{index}"), &[&image]);
        one["metadata"]["namespace"] = json!("many");
        world.deploy(one);
    }
    world.deploy(web("small", &["small:1"]));
    let (mut created, mut done_after) = (0, None);
    loop {
        let pods = world.create_all();
        if pods.is_empty() {
            break;
        }
        created += pods.len();
        world.pull(&pods);
        let prefetched = |event: &EventRecord| {
            event.reason == EventReason::Prefetched && event.workload.key == key("small")
        };
        if done_after.is_none() && world.events.iter().any(prefetched) {
            done_after = Some(created);
        }
    }
    assert_eq!(created, 21 * 8);
    // A half of each round is the small one's, after the creates that were in flight before it came.
    assert!(
        done_after.is_some_and(|after| after <= 4 + 2 * 8),
        "{done_after:?} of {created}"
    );
}

#[test]
fn a_missing_tag_costs_two_pods_on_each_architecture_and_a_fix_goes_everywhere() {
    let mut world = with_two_architectures();
    world.deploy(web("web", &["a:missing"]));
    let canary = world.create_all();
    world.fail_pulls(&canary, NOT_FOUND);
    let notes = world.take_events(EventReason::PrefetchFailed);
    assert_eq!(notes.len(), 1, "{notes:?}");
    for part in ["a:missing", "not found", "16 nodes not tried"] {
        assert!(notes[0].contains(part), "{part:?} is missing in {notes:?}");
    }
    world.advance(secs(60));
    assert!(world.take_creates().is_empty());
    let arm = canary.iter().filter(|pod| node_of(pod).starts_with("arm"));
    assert_eq!((canary.len(), arm.count()), (4, 2));

    let amd =
        json!({"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/arch": "amd64"}}}}});
    world.deploy(merged(web("web", &["a:2"]), &amd));
    let deletes = world.take_deletes();
    assert_eq!(deletes.len(), 4, "the pods that failed");
    for (id, _) in deletes {
        world.finish(id, CommandResult::PodDeleted(Ok(())));
    }
    for pod in &canary {
        world.hide(pod);
    }
    let mut fixed = Vec::new();
    while world.pending() > 0 {
        let pods = world.create_all();
        assert!(!pods.is_empty(), "{} nodes stay pending", world.pending());
        world.pull(&pods);
        fixed.extend(pods);
    }
    let nodes: Vec<String> = (1..=10).map(|index| format!("n{index:03}")).collect();
    assert_eq!(nodes_of(&fixed), nodes);
    assert_eq!(world.take_events(EventReason::Prefetched).len(), 1);
}
