//! Tests of images that wait for the new pods of their rollout.

use super::holds::{hold, take_resumes};
use super::kubelet::*;
use super::world::*;
use crate::event::EventReason;
use serde_json::{Value, json};

/// A Deployment of four pods whose images follow one new pod that is ready.
fn careful(image: &str) -> Value {
    let change = json!({
        "metadata": {"generation": 2, "annotations": {"headstart.dev/after-ready": "1"}},
        "spec": {"replicas": 4},
        "status": ready(0),
    });
    merged(web("web", &[image]), &change)
}

/// The status of a rollout that replaces one pod after the other, after so many new pods are ready.
fn ready(count: i32) -> Value {
    let at = "2020-01-01T00:00:00Z";
    json!({
        "observedGeneration": 2, "replicas": 5, "updatedReplicas": count + 1, "readyReplicas": 4, "availableReplicas": 4,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": at}],
    })
}

/// A world in mode `enabled` with nodes.
fn enabled(nodes: usize) -> World {
    let mut world = World::new();
    world.namespace("shop", "enabled");
    world.nodes(nodes);
    world
}

#[test]
fn other_nodes_are_prefetched_when_so_many_new_pods_are_ready() {
    let mut world = enabled(3);
    world.deploy(careful("a:1"));
    world.advance(secs(600));
    assert!(world.commands.is_empty(), "{:?}", world.commands);
    let note = world.take_events(EventReason::PrefetchStarted).remove(0);
    assert!(
        note.ends_with(". It begins when 1 new pod is ready (headstart.dev/after-ready)"),
        "{note}"
    );
    assert_eq!(world.pending(), 0, "nothing is late");
    world.deploy(merged(careful("a:1"), &json!({"status": ready(1)})));
    world.advance(secs(1));
    world.answer_list([]);
    assert_eq!(world.create_all().len(), 3);
}

#[test]
fn a_version_that_crashes_costs_no_pull_elsewhere() {
    let mut world = enabled(20);
    world.deploy(careful("broken:1"));
    let gave_up = json!({"status": {"conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
    ]}});
    world.deploy(merged(careful("broken:1"), &gave_up));
    world.advance(secs(3600));
    world.deploy(merged(
        careful("fixed:1"),
        &json!({"metadata": {"generation": 3}}),
    ));
    world.advance(secs(10));
    assert!(world.commands.is_empty(), "{:?}", world.commands);
}

#[test]
fn pods_that_fail_later_do_not_stop_a_prefetch() {
    let mut world = enabled(3);
    world.deploy(merged(careful("a:1"), &json!({"status": ready(1)})));
    world.deploy(careful("a:1"));
    world.advance(secs(1));
    world.answer_list([]);
    assert_eq!(world.create_all().len(), 3);
}

#[test]
fn without_the_annotation_the_prefetch_begins() {
    let mut world = enabled(3);
    world.deploy(careful("a:1"));
    let without = json!({"metadata": {"annotations": null}});
    world.deploy(merged(careful("a:1"), &without));
    world.advance(secs(1));
    world.answer_list([]);
    assert_eq!(world.create_all().len(), 3);
}

#[test]
fn a_new_leader_waits_as_the_one_before() {
    let mut world = enabled(3);
    world.deploy(careful("a:1"));
    let mut world = world.new_leader(config());
    world.advance(secs(60));
    assert!(world.take_creates().is_empty());
    world.deploy(merged(careful("a:1"), &json!({"status": ready(1)})));
    world.advance(secs(1));
    world.answer_list([]);
    assert_eq!(world.create_all().len(), 3);
}

#[test]
fn a_node_that_joins_meanwhile_waits_too() {
    let mut world = enabled(1);
    world.deploy(careful("a:1"));
    let young = json!({"metadata": {"creationTimestamp": world.now.wall}});
    world.node_with("new", &young);
    assert!(world.take_creates().is_empty());
    world.deploy(merged(careful("a:1"), &json!({"status": ready(1)})));
    world.advance(secs(1));
    world.answer_list([]);
    assert_eq!(nodes_of(&world.create_all()), ["n001", "new"]);
}

#[test]
fn a_held_rollout_does_not_wait_for_its_pods() {
    let mut world = World::new();
    world.nodes(2);
    let held = hold(&world, "web", &["a:1"]);
    world.deploy(merged(careful("a:1"), &held));
    let note = world.take_events(EventReason::PrefetchStarted).remove(0);
    assert!(
        note.ends_with("headstart.dev/after-ready has no effect with hold"),
        "{note}"
    );
    let pods = world.create_all();
    assert_eq!(pods.len(), 2);
    world.pull(&pods);
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn the_nodes_of_pods_that_are_ready_get_no_pod() {
    let mut world = enabled(2);
    world.deploy(careful("a:1"));
    let reports = json!({"status": {"images": [{"names": ["docker.io/library/a:1"]}]}});
    world.node_with("n001", &reports);
    world.deploy(merged(careful("a:1"), &json!({"status": ready(1)})));
    world.advance(secs(1));
    assert_eq!(nodes_of(&world.create_all()), ["n002"]);
}
