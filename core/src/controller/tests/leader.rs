//! Tests of a new leader: the objects that it looks at, and the work that it takes over.

use super::world::*;
use crate::controller::command::{Event, Output};
use crate::controller::log::LogLine;
use crate::controller::{Controller, Stats};
use serde_json::json;

/// Starts another controller on the store. Returns the Deployments and the nodes that it looks at.
fn start(world: &World) -> (Vec<String>, Vec<String>) {
    let mut out = Output::default();
    let mut controller = Controller::new(config());
    let events = controller.start(&world.store, world.now, &mut out);
    assert!(out.commands.is_empty(), "{:?}", out.commands);
    let (mut deployments, mut nodes) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::DeploymentChanged { key, .. } => deployments.push(key.name),
            Event::NodeChanged(node) => nodes.push(node.to_string()),
            other => panic!("{other:?}"),
        }
    }
    let leading = LogLine::Leading {
        deployments: deployments.len(),
    };
    assert_eq!(out.logs, [leading]);
    (deployments, nodes)
}

#[test]
fn a_new_leader_looks_at_what_is_enabled_held_or_has_pods() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("enabled", &["a:1"]));
    let disabled = json!({"metadata": {"labels": {"headstart.dev/prefetch": "disabled"}}});
    let held = json!({"metadata": {"labels": {"headstart.dev/held": "true"}}});
    world.deploy(merged(web("disabled", &["a:1"]), &disabled));
    world.deploy(merged(merged(web("held", &["a:1"]), &disabled), &held));
    world.deploy(web("with-pods", &["b:1"]));
    world.create_all();
    world.delete_deployment("with-pods");
    assert_eq!(start(&world).0, ["enabled", "held", "with-pods"]);
}

#[test]
fn a_new_leader_looks_at_nodes_that_joined_within_the_retention() {
    let mut world = World::new();
    world.node("old");
    let young = json!({"metadata": {"creationTimestamp": world.now.wall}});
    world.node_with("young", &young);
    world.advance(secs(599));
    assert_eq!(start(&world).1, ["young"]);
    world.advance(secs(1));
    assert!(start(&world).1.is_empty());
}

#[test]
fn a_new_leader_continues_pulls_that_are_in_progress_and_counts_their_slots() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    let mut world = world.new_leader(config());
    assert!(world.commands.is_empty());
    let stats = world.controller.stats(world.now.monotonic);
    assert_eq!((stats.nodes, stats.pulling, stats.creates), (3, 3, 0));
    world.pull(&pods);
    assert_eq!(
        world.controller.stats(world.now.monotonic),
        Stats::default()
    );
}

#[test]
fn a_new_leader_deletes_the_pods_that_the_last_one_did_not() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    world.create_all();
    world.delete_deployment("web");
    assert_eq!(world.take_deletes().len(), 2);
    let mut world = world.new_leader(config());
    assert_eq!(world.take_deletes().len(), 2);
}

#[test]
fn a_new_leader_tries_a_node_again_whose_pod_was_refused_after_a_pause() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.reject(&pods);
    let mut world = world.new_leader(config());
    assert!(world.commands.is_empty());
    world.advance(secs(10));
    assert_eq!(world.take_deletes().len(), 1, "the pod by the same name");
}

#[test]
fn the_pods_of_deployments_that_rolled_out_long_ago_are_not_created_again() {
    let mut world = World::new();
    world.nodes(2);
    let old = json!({"status": settled(1_700_000_000)});
    world.deploy(merged(web("web", &["a:1"]), &old));
    let mut world = world.new_leader(config());
    let before = |line: &LogLine| matches!(line, LogLine::RolledOutBefore(of) if *of == key("web"));
    assert!(world.logs.iter().any(before), "{:?}", world.logs);
    world.advance(secs(60));
    assert!(world.commands.is_empty());
}
