//! Tests of limits other than those for pulls: lists, limits on nodes, slots, and the size of a pod.

use super::kubelet::*;
use super::world::*;
use crate::controller::ControllerConfig;
use crate::controller::command::{Command, CommandResult, Event, Reviewed};
use crate::controller::log::LogLine;
use crate::controller::observation::Observation;
use crate::event::EventReason;
use serde_json::{Value, json};
use std::time::Duration;

fn max_nodes(count: &str) -> Value {
    json!({"metadata": {"annotations": {"headstart.dev/max-nodes": count}}})
}

#[test]
fn at_most_sixteen_lists_are_in_flight() {
    let mut world = World::new();
    world.nodes(3);
    for index in 0..20 {
        let name = format!("web-{index:02}");
        world.deploy(merged(web(&name, &["a:1"]), &max_nodes("1")));
    }
    assert_eq!(world.commands.len(), 16);
    let answered = world.commands.remove(0).id();
    let nodes = CommandResult::PodsListed(Ok(["n001".to_owned()].into()));
    world.finish(answered, nodes);
    let lists = |command: &&Command| matches!(command, Command::ListPods { .. });
    assert_eq!(world.commands.iter().filter(lists).count(), 16);
    assert_eq!(world.take_creates().len(), 1);
}

/// Begins the rollouts of 20 Deployments, whose plans depend on where they run.
fn twenty_lists() -> World {
    let mut world = World::new();
    world.nodes(3);
    for index in 0..20 {
        let name = format!("web-{index:02}");
        let image = format!("a{index}:1");
        world.deploy(merged(web(&name, &[&image]), &max_nodes("1")));
    }
    world
}

#[test]
fn a_list_that_waits_for_five_seconds_is_not_waited_for() {
    let mut world = twenty_lists();
    world.advance(Duration::from_millis(4999));
    assert!(world.take_creates().is_empty());
    world.advance(Duration::from_millis(1));
    // Those without an answer in time are planned as if they ran nowhere.
    assert_eq!(world.take_creates().len(), 4);
    let failed = |line: &&LogLine| matches!(line, LogLine::LookupFailed { .. });
    assert_eq!(world.logs.iter().filter(failed).count(), 4);
    // A place that is free sends nothing late.
    let answered = world.commands.remove(0).id();
    world.finish(answered, CommandResult::PodsListed(Err("late".into())));
    let lists = |command: &&Command| matches!(command, Command::ListPods { .. });
    assert_eq!(world.commands.iter().filter(lists).count(), 15);
}

#[test]
fn a_list_that_is_not_wanted_any_more_is_not_sent() {
    let mut world = twenty_lists();
    world.delete_deployment("web-16");
    let other = merged(web("web-17", &["a:2"]), &max_nodes("1"));
    world.deploy(other);
    let answered = world.commands.remove(0).id();
    world.finish(answered, CommandResult::PodsListed(Err("slow".into())));
    let Some(Command::ListPods { workload, .. }) = world
        .commands
        .iter()
        .rfind(|command| matches!(command, Command::ListPods { .. }))
    else {
        panic!("a list");
    };
    assert_eq!(workload.key.name, "web-18");
}

#[test]
fn a_node_that_joins_is_added_to_a_limited_plan_only_while_that_has_room() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(merged(web("web", &["a:1"]), &max_nodes("2")));
    world.answer_list([]);
    assert_eq!(world.create_all().len(), 1);
    world.node("second");
    assert_eq!(nodes_of(&world.create_all()), ["second"]);
    world.node("third");
    assert!(world.take_creates().is_empty());
}

#[test]
fn no_images_go_to_nodes_that_join_where_that_is_switched_off() {
    let mut world = World::with(ControllerConfig {
        new_node_deployments: 0,
        ..config()
    });
    let old = json!({"status": settled(1_700_000_000)});
    world.deploy(merged(web("web", &["a:1"]), &old));
    let young = json!({"metadata": {"creationTimestamp": world.now.wall}});
    world.node_with("new", &young);
    assert!(world.take_creates().is_empty());
}

#[test]
fn a_deployment_without_replicas_gets_nothing_on_a_node_that_joins() {
    let mut world = World::new();
    let idle = json!({"spec": {"replicas": 0}, "status": settled(1_700_000_000)});
    world.deploy(merged(web("web", &["a:1"]), &idle));
    let young = json!({"metadata": {"creationTimestamp": world.now.wall}});
    world.node_with("new", &young);
    assert!(world.take_creates().is_empty());
}

#[test]
fn with_a_canary_starting_pods_are_listed_while_it_is_watched() {
    let mut world = World::new();
    world.nodes(20);
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": rolling()})));
    assert_eq!(world.create_all().len(), 2, "the canary does not wait");
    world.advance(Duration::from_millis(1499));
    assert!(world.commands.is_empty());
    world.advance(Duration::from_millis(1));
    assert_eq!(world.commands.len(), 1);
    world.answer_list(["n010"]);
    world.advance(Duration::from_millis(500));
    assert_eq!(world.create_all().len(), 17);
    world.advance(secs(10));
    assert_eq!(nodes_of(&world.create_all()), ["n010"]);
}

#[test]
fn a_slot_of_a_node_that_leaves_is_free() {
    let mut world = World::with(ControllerConfig {
        limits: crate::controller::PullLimits {
            nodes: 1,
            ..Default::default()
        },
        ..config()
    });
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let first = world.create_all();
    assert_eq!(nodes_of(&first), ["n001"]);
    world.hide(&first[0]);
    world.delete_node("n001");
    assert_eq!(nodes_of(&world.create_all()), ["n002"]);
}

#[test]
fn a_pod_whose_kubelet_waits_for_its_next_attempt_takes_no_slot() {
    let mut world = World::with(ControllerConfig {
        limits: crate::controller::PullLimits {
            nodes: 1,
            ..Default::default()
        },
        ..config()
    });
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let first = world.create_all();
    world.fail_pulls(&first, "dial tcp: i/o timeout");
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn the_time_of_a_pull_counts_from_the_review_of_its_images() {
    let mut world = World::new();
    world.nodes(1);
    let reviewed = world.now.monotonic;
    world.apply(Event::PermissionChanged(Default::default()));
    world.advance(secs(3));
    // The watch brings the object; its event carries the review.
    let workload = crate::workload::Workload::from_deployment(
        &serde_json::from_value(web("web", &["a:1"])).unwrap(),
    )
    .unwrap();
    let images = workload.image_set.clone();
    let update = crate::store::Update::Applied(key("web"), workload);
    world.store.apply_deployment(&None, update);
    world.apply(Event::DeploymentChanged {
        key: key("web"),
        reviewed: Some(Reviewed {
            images,
            at: reviewed,
        }),
    });
    let stats = world.controller.stats(world.now.monotonic);
    assert_eq!((stats.deployments, stats.oldest), (1, secs(3)));
    world.apply(Event::PermissionChanged(
        crate::controller::command::CreatePermission::Granted,
    ));
    let pods = world.create_all();
    world.advance(secs(4));
    world.pull(&pods);
    assert!(
        world
            .observations
            .contains(&Observation::NodePulled(secs(7))),
        "{:?}",
        world.observations
    );
}

#[test]
fn a_pod_that_is_too_large_is_not_sent() {
    let mut world = World::new();
    world.nodes(1);
    let images: Vec<String> = (0..64)
        .map(|n| format!("r.test/{}/{n}:1", "a".repeat(240)))
        .collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    world.deploy(web("web", &images));
    assert!(world.take_creates().is_empty());
    let blocked = world.take_events(EventReason::PrefetchBlocked);
    let not = world.take_events(EventReason::ImageNotPrefetched);
    assert_eq!(blocked.len() + not.len(), 1, "{blocked:?} {not:?}");
}
