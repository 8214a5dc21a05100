//! A definite failure on one node, which another node has to confirm.

use super::holds::{answer, held, resumed, take_resumes};
use super::kubelet::*;
use super::world::*;
use crate::controller::command::ResumeOutcome;
use crate::controller::{ControllerConfig, PullLimits};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

fn started(nodes: usize) -> (World, Vec<Pod>) {
    let mut world = held(nodes);
    let pods = world.create_all();
    (world, pods)
}

#[test]
fn one_node_that_does_not_find_an_image_does_not_end_a_hold() {
    let (mut world, pods) = started(3);
    world.fail_pulls(&pods[..1], NOT_FOUND);
    world.advance(secs(60));
    assert!(take_resumes(&mut world).is_empty());
    world.pull(&pods[1..]);
    world.advance(secs(3));
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let notes = resumed(&mut world);
    assert!(
        notes[0].contains("on 2 of 3 nodes; 1 node not"),
        "{notes:?}"
    );
}

#[test]
fn two_nodes_that_do_not_find_an_image_end_a_hold_at_once() {
    let (mut world, pods) = started(3);
    world.fail_pulls(&pods[..2], NOT_FOUND);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let notes = resumed(&mut world);
    assert!(notes[0].contains("cannot be had"), "{notes:?}");
}

#[test]
fn the_only_node_is_believed() {
    let (mut world, pods) = started(1);
    world.fail_pulls(&pods, NOT_FOUND);
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn the_only_node_that_is_left_is_believed() {
    let mut world = held(3);
    world.kubelets_answer = false;
    let pods = world.create_all();
    world.fail_pulls(&pods[..1], NOT_FOUND);
    world.reject(&pods[1..2]);
    assert!(take_resumes(&mut world).is_empty());
    world.advance(secs(20));
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let notes = resumed(&mut world);
    assert!(notes[0].contains("cannot be had"), "{notes:?}");
}

#[test]
fn a_large_plan_asks_a_third_node_when_the_second_does_not_answer() {
    let (mut world, canary) = started(20);
    assert_eq!(canary.len(), 2);
    world.fail_pulls(&canary[..1], NOT_FOUND);
    world.advance(secs(2));
    let third = world.create_all();
    assert_eq!(third.len(), 1, "the canary was watched, and one is slow");
    world.advance(secs(10));
    assert!(world.take_creates().is_empty());
    assert!(take_resumes(&mut world).is_empty());
    world.fail_pulls(&third, NOT_FOUND);
    assert_eq!(take_resumes(&mut world).len(), 1);
    world.advance(secs(10));
    assert!(world.take_creates().is_empty());
}

#[test]
fn a_node_of_the_canary_that_lies_stops_nothing() {
    let (mut world, canary) = started(20);
    world.fail_pulls(&canary[..1], NOT_FOUND);
    world.pull(&canary[1..]);
    let rest = world.create_all();
    assert_eq!(rest.len(), 18);
    world.pull(&rest);
    // The kubelet goes on with the pod that failed.
    world.advance(secs(3));
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let notes = resumed(&mut world);
    assert!(notes[0].contains("on 19 of 20 nodes"), "{notes:?}");
}

#[test]
fn the_second_node_is_asked_as_soon_as_a_slot_is_free() {
    let limits = PullLimits {
        nodes: 1,
        ..PullLimits::default()
    };
    let mut world = World::with(ControllerConfig { limits, ..config() });
    world.nodes(4);
    world.deploy(web("web", &["a:1"]));
    let mut asked = 0;
    loop {
        let pods = world.create_all();
        if pods.is_empty() {
            break;
        }
        asked += pods.len();
        world.fail_pulls(&pods, NOT_FOUND);
    }
    assert_eq!(asked, 2, "the others are not asked");
}

#[test]
fn a_node_that_lost_its_pod_is_replaced_as_a_witness() {
    let (mut world, canary) = started(20);
    world.fail_pulls(&canary[..1], NOT_FOUND);
    world.advance(secs(2));
    let third = world.create_all();
    assert_eq!(third.len(), 1);
    world.reject(&third);
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn a_silent_node_is_replaced_as_a_witness() {
    let mut world = held(20);
    world.kubelets_answer = false;
    let canary = world.create_all();
    world.fail_pulls(&canary[..1], NOT_FOUND);
    world.advance(secs(2));
    let third = world.create_all();
    world.acknowledge(&third);
    world.advance(secs(17));
    assert!(world.take_creates().is_empty());
    world.advance(secs(1));
    assert_eq!(world.take_creates().len(), 1);
}

#[test]
fn one_node_without_the_platform_does_not_stop_its_architecture() {
    let arm = json!({"metadata": {"labels": {"kubernetes.io/arch": "arm64"}}});
    let mut world = World::new();
    for index in 1..=10 {
        world.node_with(&format!("arm{index:02}"), &arm);
    }
    world.deploy(web("web", &["a:1"]));
    let canary = world.create_all();
    world.fail_pulls(&canary[..1], WRONG_PLATFORM);
    world.pull(&canary[1..]);
    assert_eq!(world.create_all().len(), 8);
}
