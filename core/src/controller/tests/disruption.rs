//! Pods that would stand in the way: on nodes that are about to go, and those that the kubelet goes on with in vain.

use super::holds::{answer, held, resumed, take_resumes};
use super::kubelet::*;
use super::world::*;
use crate::controller::command::{CommandResult, ResumeOutcome};
use crate::event::EventReason;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

pub(super) fn cordoned() -> Value {
    json!({"spec": {"unschedulable": true}})
}

fn tainted(key: &str) -> Value {
    json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}})
}

fn uids(deletes: &[(crate::controller::command::CommandId, String)]) -> Vec<&str> {
    deletes.iter().map(|(_, uid)| uid.as_str()).collect()
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap()
}

/// Deletes the pods that are to be deleted. Returns how many there are.
pub(super) fn delete_all(world: &mut World, pods: &[Pod]) -> usize {
    let deletes = world.take_deletes();
    for (id, uid) in &deletes {
        let of_uid = |pod: &&Pod| pod.metadata.uid.as_ref() == Some(uid);
        world.hide(pods.iter().find(of_uid).unwrap());
        world.finish(*id, CommandResult::PodDeleted(Ok(())));
    }
    deletes.len()
}

#[test]
fn an_unfinished_pod_is_deleted_when_its_node_is_about_to_go() {
    for change in [
        cordoned(),
        tainted("karpenter.sh/disrupted"),
        tainted("ToBeDeletedByClusterAutoscaler"),
    ] {
        let mut world = World::new();
        world.nodes(2);
        world.deploy(web("web", &["a:1"]));
        let pods = world.create_all();
        world.node_with("n002", &change);
        assert_eq!(uids(&world.take_deletes()), [uid(&pods[1])], "{change}");
        assert_eq!(world.pending(), 1, "{change}");
    }
}

#[test]
fn a_hold_does_not_wait_for_a_node_that_is_cordoned() {
    let mut world = held(3);
    let pods = world.create_all();
    world.pull(&pods[..2]);
    assert!(take_resumes(&mut world).is_empty());
    world.node_with("n003", &cordoned());
    assert_eq!(delete_all(&mut world, &pods), 1);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    assert!(resumed(&mut world)[0].contains("on 2 of 2 nodes"));
}

#[test]
fn a_pod_that_has_ended_stays_on_a_node_that_is_cordoned() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    world.node_with("n001", &cordoned());
    assert!(world.take_deletes().is_empty());
    assert_eq!((world.pending(), world.take_creates().len()), (0, 0));
}

#[test]
fn a_pod_whose_create_was_in_flight_is_deleted_when_it_shows() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let (id, pod) = world.take_creates().remove(0);
    world.node_with("n001", &cordoned());
    let pod = world.store_pod(id, pod);
    assert_eq!(uids(&world.take_deletes()), [uid(&pod)]);
}

#[test]
fn a_node_that_is_uncordoned_gets_its_pod_after_all() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.node_with("n002", &cordoned());
    delete_all(&mut world, &pods);
    assert!(world.take_creates().is_empty());
    world.node("n002");
    let again = world.create_all();
    assert_eq!(nodes_of(&again), ["n002"]);
    world.pull(&again);
    world.pull(&pods[..1]);
    assert_eq!(world.pending(), 0);
}

#[test]
fn a_new_leader_deletes_the_unfinished_pods_on_a_node_that_is_cordoned() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.node_with("n002", &cordoned());
    let mut world = world.new_leader(config());
    assert_eq!(uids(&world.take_deletes()), [uid(&pods[1])]);
    assert!(world.take_creates().is_empty());
}

#[test]
fn a_pod_whose_image_does_not_exist_goes_after_two_minutes_and_the_answer_stays() {
    let mut world = held(2);
    let pods = world.create_all();
    world.fail_pulls(&pods, NOT_FOUND);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    // The kubelet goes on trying, which does not prolong it.
    world.advance(secs(60));
    world.back_off(&pods, NOT_FOUND);
    world.advance(secs(59));
    assert!(world.take_deletes().is_empty());
    world.advance(secs(1));
    assert_eq!(delete_all(&mut world, &pods), 2);
    assert_eq!((world.pending(), world.take_creates().len()), (0, 0));
    let notes = world.take_events(EventReason::PrefetchFailed);
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn an_image_that_does_not_exist_is_tried_again_after_pauses_that_double() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": rolling()})));
    world.answer_starting();
    let mut tries = Vec::new();
    loop {
        let pods = world.create_all();
        if pods.is_empty() {
            break;
        }
        tries.push(world.now.monotonic);
        world.fail_pulls(&pods, NOT_FOUND);
        world.advance(secs(120));
        assert_eq!(delete_all(&mut world, &pods), 1);
        for _ in 0..3600 {
            world.advance(secs(1));
            if !world.commands.is_empty() {
                break;
            }
        }
    }
    let pauses: Vec<u64> = tries
        .windows(2)
        .map(|two| two[1].duration_since(two[0]).as_secs())
        .collect();
    assert_eq!(pauses.len(), 5, "{pauses:?}");
    assert!((150..=300).contains(&pauses[0]), "{pauses:?}");
    for two in pauses[..4].windows(2) {
        assert!(two[1].abs_diff(2 * two[0]) < 5, "{pauses:?}");
    }
    let notes = world.take_events(EventReason::PrefetchFailed);
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn a_retry_of_a_large_plan_begins_with_a_canary() {
    let mut world = World::new();
    world.nodes(20);
    world.deploy(web("web", &["a:1"]));
    let canary = world.create_all();
    world.fail_pulls(&canary, NOT_FOUND);
    world.advance(secs(120));
    assert_eq!(delete_all(&mut world, &canary), 2);
    world.advance(secs(181));
    let again = world.create_all();
    assert_eq!(again.len(), 2);
    world.fail_pulls(&again, NOT_FOUND);
    world.advance(secs(60));
    assert!(world.take_creates().is_empty());
    world.pull(&again[..1]);
    assert_eq!(world.create_all().len(), 18);
}

#[test]
fn a_reference_that_no_runtime_takes_is_not_tried_again() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.wait_with(&pods, "InvalidImageName");
    world.advance(secs(120));
    assert_eq!(delete_all(&mut world, &pods), 1);
    world.advance(secs(4000));
    assert!(world.take_creates().is_empty());
}

#[test]
fn a_pod_that_has_its_images_and_cannot_start_goes_after_ten_seconds() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1", "b:1"]));
    let pods = world.create_all();
    world.wait_with(&pods, "CreateContainerError");
    assert_eq!(world.pending(), 0, "the images are present");
    world.advance(std::time::Duration::from_millis(9999));
    assert!(world.take_deletes().is_empty());
    world.advance(std::time::Duration::from_millis(1));
    assert_eq!(delete_all(&mut world, &pods), 1);
    assert_eq!((world.pending(), world.take_creates().len()), (0, 0));
}

#[test]
fn a_pod_that_runs_is_not_taken_for_one_that_cannot_start() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    let mut running = world.pulled(&pods[0]);
    running.status.as_mut().unwrap().phase = Some("Running".into());
    world.show(&running);
    world.advance(secs(300));
    assert!(world.take_deletes().is_empty());
}

#[test]
fn finished_pods_go_from_karpenters_nodes_when_the_rollout_is_over() {
    let mut world = World::new();
    world.node("n001");
    let karpenter = json!({"metadata": {"labels": {"karpenter.sh/nodepool": "default"}}});
    world.node_with("spot", &karpenter);
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": rolling()})));
    world.answer_starting();
    let pods = world.create_all();
    world.pull(&pods);
    world.advance(secs(100));
    assert!(
        world.take_deletes().is_empty(),
        "the rollout needs its images"
    );
    let done = settled(world.now.wall.as_second());
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": done})));
    assert_eq!(delete_all(&mut world, &pods), 1);
    world.advance(secs(599));
    assert!(world.take_deletes().is_empty(), "the other stays");
    assert_eq!((world.pending(), world.take_creates().len()), (0, 0));
}
