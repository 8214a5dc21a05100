//! Nodes that are replaced by others of the same name.

use super::holds::{held, take_resumes};
use super::kubelet::*;
use super::world::*;
use crate::controller::log::LogLine;
use crate::controller::{ControllerConfig, PullLimits};
use serde_json::{Value, json};

/// Another node by the same name, to which no pods go.
fn cordoned() -> Value {
    json!({"metadata": {"uid": "another"}, "spec": {"unschedulable": true}})
}

#[test]
fn a_failure_on_a_node_that_is_replaced_blocks_the_others_no_longer() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.fail_pulls(&pods, NOT_FOUND);
    world.node("third");
    assert!(world.take_creates().is_empty(), "the tag is missing");
    world.node_with("n001", &cordoned());
    assert_eq!(nodes_of(&world.create_all()), ["third"]);
}

#[test]
fn the_registry_slot_of_a_node_that_is_replaced_is_free_for_other_deployments() {
    let limits = PullLimits {
        per_registry: 1,
        ..PullLimits::default()
    };
    let mut world = World::with(ControllerConfig { limits, ..config() });
    for name in ["a1", "b1"] {
        world.node_with(name, &json!({"metadata": {"labels": {"pool": &name[..1]}}}));
    }
    let pool =
        |pool: &str| json!({"spec": {"template": {"spec": {"nodeSelector": {"pool": pool}}}}});
    world.deploy(merged(web("first", &["r.test/a:1"]), &pool("a")));
    world.deploy(merged(web("second", &["r.test/b:1"]), &pool("b")));
    assert_eq!(nodes_of(&world.create_all()), ["a1"]);
    world.node_with("a1", &cordoned());
    assert_eq!(nodes_of(&world.create_all()), ["b1"]);
}

#[test]
fn a_hold_does_not_wait_for_a_node_that_is_replaced() {
    let mut world = held(2);
    let pods = world.create_all();
    world.pull(&pods[..1]);
    world.hide(&pods[1]);
    assert!(take_resumes(&mut world).is_empty());
    world.node_with("n002", &cordoned());
    assert_eq!(take_resumes(&mut world).len(), 1);
    let finished = |line: &LogLine| matches!(line, LogLine::Finished { .. });
    assert!(world.logs.iter().any(finished), "{:?}", world.logs);
}

#[test]
fn a_prefetch_is_not_finished_while_the_node_that_replaces_another_is_pending() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods[..1]);
    world.node_with("n002", &json!({"metadata": {"uid": "another"}}));
    let finished = |line: &LogLine| matches!(line, LogLine::Finished { .. });
    assert!(!world.logs.iter().any(finished), "{:?}", world.logs);
}
