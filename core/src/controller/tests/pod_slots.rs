//! The last pod slots of a node, which are left to the pods of others.

use super::holds::{hold, take_resumes};
use super::world::*;
use crate::controller::ControllerConfig;
use crate::controller::command::{Command, CommandId, CommandResult};
use crate::controller::log::LogLine;
use crate::event::EventReason;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(1);

fn slots(all: u32) -> Value {
    json!({"status": {"allocatable": {"pods": all.to_string()}}})
}

/// A cluster of so many nodes that take 110 pods each.
fn world_of(nodes: usize) -> World {
    world_with(nodes, config())
}

fn world_with(nodes: usize, config: ControllerConfig) -> World {
    let mut world = World::with(config);
    for index in 1..=nodes {
        world.node_with(&format!("n{index:03}"), &slots(110));
    }
    world
}

/// Takes the reads without an answer, with the node of each.
fn take_counts(world: &mut World) -> Vec<(CommandId, String)> {
    let is_count = |command: &mut Command| matches!(command, Command::CountPods { .. });
    let counts = world.commands.extract_if(.., is_count);
    counts
        .map(|command| match command {
            Command::CountPods { id, node } => (id, node.to_string()),
            _ => unreachable!(),
        })
        .collect()
}

/// Answers the reads without an answer. Returns how many there were.
fn count(world: &mut World, pods: impl Fn(&str) -> u32) -> usize {
    let counts = take_counts(world);
    for (id, node) in &counts {
        let result = CommandResult::PodsCounted(Ok(pods(node)));
        world.finish(*id, result);
    }
    counts.len()
}

fn fail_counts(world: &mut World) -> usize {
    let counts = take_counts(world);
    for (id, _) in &counts {
        let result = CommandResult::PodsCounted(Err("no answer".into()));
        world.finish(*id, result);
    }
    counts.len()
}

/// Returns the node to which the pod is bound without the scheduler.
fn bound_to(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn goes_through_the_scheduler(pod: &Pod) -> bool {
    bound_to(pod).is_none() && pod.spec.as_ref().unwrap().affinity.is_some()
}

#[test]
fn a_node_is_counted_before_a_pod_goes_there() {
    let mut world = world_of(1);
    world.deploy(web("web", &["a:1"]));
    assert!(world.take_creates().is_empty());
    assert_eq!(count(&mut world, |_| 100), 1);
    let pods = world.create_all();
    assert_eq!(bound_to(&pods[0]), Some("n001"));
    world.pull(&pods);
    assert_eq!(world.pending(), 0);
}

#[test]
fn a_node_that_does_not_say_how_many_pods_it_takes_is_not_counted() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    assert!(take_counts(&mut world).is_empty());
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn two_slots_are_left_and_no_hold_waits_for_the_node() {
    for pods in [108, 109, 110, 200] {
        let mut world = world_of(3);
        let object = hold(&world, "web", &["a:1"]);
        world.deploy(object);
        count(&mut world, |node| if node == "n002" { pods } else { 3 });
        let created = world.create_all();
        assert_eq!(created.len(), 2, "{pods}");
        world.pull(&created);
        world.advance(secs(3));
        assert_eq!(take_resumes(&mut world).len(), 1, "{pods}");
        let notes = world.take_events(EventReason::PrefetchFailed);
        let said =
            format!("n002 does not take the prefetch pod: the node takes 110 pods and has {pods}");
        assert!(notes.len() == 1 && notes[0].contains(&said), "{notes:?}");
    }
}

#[test]
fn a_hold_ends_at_once_where_all_nodes_are_full() {
    let mut world = world_of(2);
    let object = hold(&world, "web", &["a:1"]);
    world.deploy(object);
    count(&mut world, |_| 109);
    assert!(world.create_all().is_empty());
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn the_scheduler_binds_to_the_third_slot_from_the_end() {
    let mut world = world_of(2);
    world.deploy(web("web", &["a:1"]));
    count(&mut world, |node| if node == "n001" { 106 } else { 107 });
    let pods = world.create_all();
    assert_eq!(bound_to(&pods[0]), Some("n001"));
    assert!(goes_through_the_scheduler(&pods[1]));
    world.pull(&pods);
    assert_eq!(world.pending(), 0);
}

#[test]
fn pods_that_are_created_since_the_count_take_slots_until_they_end() {
    let mut world = world_of(1);
    world.deploy(web("a", &["a:1"]));
    count(&mut world, |_| 106);
    let first = world.create_all();
    assert_eq!(bound_to(&first[0]), Some("n001"));
    world.deploy(web("b", &["b:1"]));
    let second = world.create_all();
    assert!(goes_through_the_scheduler(&second[0]), "three are free");
    world.pull(&second);
    world.deploy(web("c", &["c:1"]));
    let third = world.create_all();
    assert!(
        goes_through_the_scheduler(&third[0]),
        "the second has ended"
    );
    world.deploy(web("d", &["d:1"]));
    assert!(world.create_all().is_empty(), "two are free");
    assert!(take_counts(&mut world).is_empty(), "one read in a minute");
}

#[test]
fn pods_that_are_being_created_or_not_acknowledged_take_slots() {
    let mut world = world_of(1);
    world.kubelets_answer = false;
    world.deploy(web("a", &["a:1"]));
    count(&mut world, |_| 106);
    let (id, pod) = world.take_creates().pop().unwrap();
    world.deploy(web("b", &["b:1"]));
    let (_, second) = world.take_creates().pop().unwrap();
    assert!(goes_through_the_scheduler(&second));
    world.store_pod(id, pod);
    world.deploy(web("c", &["c:1"]));
    assert!(world.take_creates().is_empty());
}

#[test]
fn pods_that_are_in_the_count_are_not_counted_twice() {
    let mut world = world_of(1);
    world.deploy(web("a", &["a:1"]));
    count(&mut world, |_| 105);
    let first = world.create_all();
    world.advance(secs(60));
    world.deploy(web("b", &["b:1"]));
    assert_eq!(count(&mut world, |_| 106), 1);
    let second = world.create_all();
    assert_eq!(bound_to(&second[0]), Some("n001"));
    world.pull(&[first, second].concat());
    assert_eq!(world.pending(), 0);
}

#[test]
fn a_full_node_is_tried_again_after_a_minute() {
    let mut world = world_of(1);
    world.deploy(web("web", &["a:1"]));
    count(&mut world, |_| 109);
    world.advance(secs(60) - MOMENT);
    assert!(world.commands.is_empty());
    world.advance(MOMENT);
    assert_eq!(count(&mut world, |_| 100), 1);
    let pods = world.create_all();
    assert_eq!(pods.len(), 1);
    world.pull(&pods);
    assert_eq!(world.pending(), 0);
}

#[test]
fn a_node_that_stays_full_is_given_up_after_five_attempts() {
    let mut world = world_of(1);
    world.deploy(web("web", &["a:1"]));
    let mut counts = 0;
    for _ in 0..20 {
        counts += count(&mut world, |_| 110);
        world.advance(secs(60));
    }
    assert_eq!((counts, world.pending()), (5, 0));
    assert!(world.create_all().is_empty());
}

#[test]
fn a_prefetch_goes_on_without_an_answer() {
    let mut world = world_of(2);
    world.deploy(web("web", &["a:1"]));
    assert_eq!(fail_counts(&mut world), 2);
    let pods = world.create_all();
    assert_eq!(pods.len(), 2);
    world.pull(&pods);
    world.deploy(web("web", &["a:2"]));
    assert!(take_counts(&mut world).is_empty(), "one read in a minute");
    assert_eq!(world.create_all().len(), 2);
    world.advance(secs(60));
    world.deploy(web("web", &["a:3"]));
    assert_eq!(count(&mut world, |_| 110), 2);
}

#[test]
fn after_three_failures_no_node_waits_for_a_count() {
    let mut world = world_of(20);
    world.deploy(web("web", &["a:1"]));
    world.advance(secs(5));
    let counts = take_counts(&mut world);
    assert_eq!(counts.len(), 20);
    let mut fail = |index: usize| {
        let result = CommandResult::PodsCounted(Err("no answer".into()));
        world.finish(counts[index].0, result);
    };
    (0..3).for_each(&mut fail);
    let canary = world.create_all();
    assert!(!canary.is_empty());
    world.pull(&canary);
    let paused = |line: &&LogLine| matches!(line, LogLine::CountFailed { paused: true, .. });
    assert_eq!(world.logs.iter().filter(paused).count(), 1);
    world.run_to_end();
    assert!(world.commands.is_empty(), "none is counted");
    for (id, _) in &counts[3..] {
        let result = CommandResult::PodsCounted(Ok(110));
        world.finish(*id, result);
    }
}

#[test]
fn so_many_reads_are_in_flight_and_counted_nodes_do_not_wait_for_others() {
    let mut world = world_with(
        100,
        ControllerConfig {
            max_writes: 1000,
            ..config()
        },
    );
    world.deploy(web("web", &["a:1"]));
    let mut counts = take_counts(&mut world);
    assert_eq!(counts.len(), 32);
    // The last is answered first, and gets its pod.
    let (id, node) = counts.pop().unwrap();
    world.finish(id, CommandResult::PodsCounted(Ok(5)));
    let pods = world.create_all();
    assert_eq!(bound_to(&pods[0]), Some(&*node));
    counts.extend(take_counts(&mut world));
    assert_eq!(counts.len(), 32, "another takes its place");
    for (id, _) in counts {
        world.finish(id, CommandResult::PodsCounted(Ok(5)));
    }
    world.pull(&pods);
    for _ in 0..100 {
        count(&mut world, |_| 5);
        let pods = world.create_all();
        world.pull(&pods);
        world.advance(secs(1));
    }
    assert_eq!(world.pending(), 0);
}

#[test]
fn nodes_are_counted_while_the_canary_is_watched() {
    let mut world = world_of(100);
    world.deploy(web("web", &["a:1"]));
    let mut counted = 0;
    while let more @ 1.. = count(&mut world, |_| 5) {
        counted += more;
    }
    assert_eq!(counted, 100);
    let canary = world.create_all();
    assert!(canary.len() < 10);
    world.pull(&canary);
    assert_eq!(world.create_all().len(), 100 - canary.len());
    assert!(take_counts(&mut world).is_empty());
}

#[test]
fn two_deployments_wait_for_one_read() {
    let mut world = world_of(1);
    world.deploy(web("a", &["a:1"]));
    world.deploy(web("b", &["b:1"]));
    assert_eq!(count(&mut world, |_| 5), 1);
    assert_eq!(world.create_all().len(), 2);
}

#[test]
fn a_prefetch_that_is_over_does_not_mind_the_answer() {
    let mut world = world_of(1);
    world.deploy(web("web", &["a:1"]));
    world.delete_deployment("web");
    count(&mut world, |_| 5);
    assert!(world.create_all().is_empty());
}

#[test]
fn a_node_that_is_gone_does_not_mind_the_answer() {
    let mut world = world_of(2);
    world.deploy(web("web", &["a:1"]));
    world.delete_node("n001");
    count(&mut world, |_| 5);
    let pods = world.create_all();
    assert_eq!(pods.len(), 1);
    assert_eq!(bound_to(&pods[0]), Some("n002"));
}

#[test]
fn old_counts_are_forgotten() {
    let mut world = world_of(1);
    world.deploy(web("web", &["a:1"]));
    count(&mut world, |_| 5);
    let pods = world.create_all();
    world.pull(&pods);
    world.delete_deployment("web");
    for (id, _) in world.take_deletes() {
        world.finish(id, CommandResult::PodDeleted(Ok(())));
    }
    world.hide(&pods[0]);
    assert!(world.controller.next_timeout().is_some());
    world.advance(secs(120));
    assert_eq!(world.controller.next_timeout(), None);
}
