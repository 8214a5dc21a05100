//! Tests of nodes that are short of disk.

use super::disruption::{cordoned, delete_all};
use super::holds::{answer, held, resumed, take_resumes};
use super::kubelet::*;
use super::world::*;
use crate::controller::command::ResumeOutcome;
use crate::event::EventReason;
use serde_json::{Value, json};

fn short_of_disk() -> Value {
    json!({"status": {"conditions": [
        {"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"},
    ]}})
}

#[test]
fn all_pods_go_from_a_node_that_is_short_of_disk() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods[..1]);
    world.node_with("n003", &cordoned());
    assert_eq!(delete_all(&mut world, &pods), 1, "the unfinished one");
    world.node_with("n001", &short_of_disk());
    assert_eq!(delete_all(&mut world, &pods), 1, "a finished one");
    assert!(world.take_events(EventReason::PrefetchFailed).is_empty());
    world.node_with("n002", &short_of_disk());
    assert_eq!(delete_all(&mut world, &pods), 1, "an unfinished one");
    let notes = world.take_events(EventReason::PrefetchFailed);
    assert!(
        notes.len() == 1 && notes[0].contains("n002 reports DiskPressure"),
        "{notes:?}"
    );
    assert_eq!((world.pending(), world.take_creates().len()), (0, 0));
}

#[test]
fn a_pod_that_shows_on_a_node_that_is_short_of_disk_is_deleted() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let (id, pod) = world.take_creates().remove(0);
    world.node_with("n001", &short_of_disk());
    let pod = world.store_pod(id, pod);
    assert_eq!(delete_all(&mut world, &[pod]), 1);
}

#[test]
fn a_new_leader_deletes_the_pods_on_a_node_that_is_short_of_disk() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    world.node_with("n002", &short_of_disk());
    world.take_deletes();
    let mut world = world.new_leader(config());
    assert_eq!(delete_all(&mut world, &pods), 1);
    assert!(world.take_creates().is_empty());
}

#[test]
fn a_hold_does_not_wait_for_a_node_that_is_short_of_disk() {
    let mut world = held(3);
    let pods = world.create_all();
    world.pull(&pods[..2]);
    assert!(take_resumes(&mut world).is_empty());
    world.node_with("n003", &short_of_disk());
    assert_eq!(delete_all(&mut world, &pods), 1);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    assert!(resumed(&mut world)[0].contains("on 2 of 2 nodes"));
}

#[test]
fn a_node_is_tried_once_more_when_it_has_room_again() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods[..1]);
    world.node_with("n002", &short_of_disk());
    assert_eq!(delete_all(&mut world, &pods), 1);
    world.node("n002");
    let again = world.create_all();
    assert_eq!(nodes_of(&again), ["n002"]);
    world.node_with("n002", &short_of_disk());
    assert_eq!(delete_all(&mut world, &again), 1);
    world.node("n002");
    assert!(world.create_all().is_empty(), "its disk is too small");
    assert_eq!(world.take_events(EventReason::PrefetchFailed).len(), 1);
    // Another image may be smaller.
    world.deploy(web("web", &["a:2"]));
    assert_eq!(nodes_of(&world.create_all()), ["n001", "n002"]);
}

#[test]
fn a_node_that_had_no_pod_yet_may_be_short_of_disk_many_times() {
    let mut world = held(9);
    let canary = world.create_all();
    assert_eq!(canary.len(), 2);
    for _ in 0..3 {
        world.node_with("n009", &short_of_disk());
        world.node("n009");
    }
    assert!(world.take_events(EventReason::PrefetchFailed).is_empty());
    world.pull(&canary);
    assert_eq!(world.create_all().len(), 7);
}
