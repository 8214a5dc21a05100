//! Tests of nodes that are short of disk.

use super::disruption::{cordoned, delete_all};
use super::holds::{answer, held, hold, resumed, take_resumes};
use super::kubelet::*;
use super::world::*;
use crate::controller::ControllerConfig;
use crate::controller::command::ResumeOutcome;
use crate::event::EventReason;
use crate::pod::PodSettings;
use crate::testing::settings;
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

fn not_ready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
}

/// A node that reports images by name and mebibytes.
fn reports(images: &[(&str, u64)], storage: &str) -> Value {
    let images: Vec<Value> = images
        .iter()
        .map(|(name, size)| {
            json!({"names": [format!("docker.io/library/{name}")], "sizeBytes": size << 20})
        })
        .collect();
    json!({"status": {"images": images, "allocatable": {"ephemeral-storage": storage}}})
}

fn limited(max: &str) -> ControllerConfig {
    let pods = PodSettings {
        max_image_size: max.parse().unwrap(),
        ..settings()
    };
    ControllerConfig {
        pods: pods.into(),
        max_writes: 2,
        ..config()
    }
}

const TOO_LARGE: &str = "image \"a:1\" takes 2Gi, and --max-image-size allows 1Gi";

#[test]
fn an_image_that_is_known_to_be_too_large_is_pulled_nowhere() {
    let mut world = World::with(limited("1Gi"));
    world.node_with(
        "n001",
        &merged(reports(&[("a:1", 2048)], "100Gi"), &not_ready()),
    );
    world.node("n002");
    let object = hold(&world, "web", &["b:1", "a:1"]);
    world.deploy(object);
    assert!(world.take_creates().is_empty());
    let started = world.take_events(EventReason::PrefetchStarted);
    assert!(started[0].contains(TOO_LARGE), "{started:?}");
    let events = world.take_events(EventReason::ImageNotPrefetched);
    assert!(
        events.len() == 1 && events[0].ends_with(TOO_LARGE),
        "{events:?}"
    );
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let resumed = resumed(&mut world);
    assert!(resumed[0].contains("no node to prefetch on"), "{resumed:?}");
    assert!(resumed[0].ends_with(TOO_LARGE), "{resumed:?}");
}

#[test]
fn nodes_that_have_an_image_that_is_too_large_are_planned() {
    let mut world = World::with(limited("1Gi"));
    world.node_with("n001", &reports(&[("a:1", 2048)], "100Gi"));
    world.deploy(web("web", &["a:1"]));
    assert!(world.take_creates().is_empty());
    assert!(
        world
            .take_events(EventReason::ImageNotPrefetched)
            .is_empty()
    );
}

#[test]
fn a_size_that_the_first_nodes_report_stops_the_others() {
    // With another change of the node, and without.
    for before in [json!({}), reports(&[], "100Gi")] {
        let mut world = World::with(limited("1Gi"));
        for node in ["n001", "n002", "n003", "n004"] {
            world.node_with(node, &before);
        }
        let object = hold(&world, "web", &["a:1"]);
        world.deploy(object);
        // Two are sent to, and the writes of the others wait.
        let first = world.take_creates();
        assert_eq!(first.len(), 2);
        world.node_with("n001", &reports(&[("a:1", 2048)], "100Gi"));
        let events = world.take_events(EventReason::ImageNotPrefetched);
        assert!(
            events.len() == 1 && events[0].ends_with(TOO_LARGE),
            "{events:?}"
        );
        for (id, pod) in first {
            world.store_pod(id, pod);
        }
        assert!(world.take_creates().is_empty());
        answer(&mut world, Ok(ResumeOutcome::Resumed));
        let resumed = resumed(&mut world);
        assert!(resumed[0].contains("an image cannot be had"), "{resumed:?}");
        assert!(resumed[0].ends_with(TOO_LARGE), "{resumed:?}");
        world.node("n005");
        world.node_with("n002", &reports(&[("a:1", 2048)], "100Gi"));
        assert!(world.take_creates().is_empty());
        assert!(
            world
                .take_events(EventReason::ImageNotPrefetched)
                .is_empty()
        );
    }
}

#[test]
fn without_a_limit_no_size_is_looked_at() {
    let mut world = World::with(limited("none"));
    world.node_with("n001", &reports(&[("a:1", 2048)], "100Gi"));
    world.node_with("n002", &reports(&[], "1Gi"));
    world.deploy(web("web", &["a:1"]));
    assert_eq!(nodes_of(&world.create_all()), ["n002"]);
}

#[test]
fn a_node_whose_disk_is_too_small_gets_the_images_when_it_has_room() {
    let mut world = World::with(limited("10Gi"));
    world.node_with("n001", &reports(&[("a:1", 2048)], "100Gi"));
    world.node_with("n002", &reports(&[("b:1", 7168)], "8Gi"));
    let object = hold(&world, "web", &["a:1"]);
    world.deploy(object);
    assert!(world.take_creates().is_empty());
    let started = world.take_events(EventReason::PrefetchStarted);
    let why = "n002: the images take 2Gi, the node has at most 1Gi of disk left";
    assert!(started[0].contains(why), "{started:?}");
    assert_eq!(take_resumes(&mut world).len(), 1, "it is not waited for");
    world.node_with("n002", &reports(&[("b:1", 6144)], "8Gi"));
    assert_eq!(nodes_of(&world.create_all()), ["n002"]);
}

#[test]
fn a_node_that_joins_gets_no_image_that_is_too_large() {
    let mut world = World::with(limited("1Gi"));
    world.node_with("n001", &reports(&[("a:1", 2048)], "100Gi"));
    world.deploy(web("web", &["a:1"]));
    let mut world = world.new_leader(limited("1Gi"));
    world.take_creates();
    world.node("n002");
    assert!(world.take_creates().is_empty());
}
