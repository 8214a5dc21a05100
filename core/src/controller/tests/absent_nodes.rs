//! Nodes that do not answer, or refuse the pod: no hold waits for them.

use super::holds::{answer, held, hold, resumed, take_resumes};
use super::kubelet::*;
use super::world::*;
use crate::controller::PullLimits;
use crate::controller::command::{CommandResult, ResumeOutcome};
use crate::controller::{ControllerConfig, log::LogLine};
use crate::event::EventReason;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(1);

pub(super) fn not_ready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
}

/// A rollout held on so many nodes, whose pods the watch has shown.
fn started(nodes: usize) -> (World, Vec<Pod>) {
    let mut world = held(nodes);
    world.kubelets_answer = false;
    let pods = world.create_all();
    assert_eq!(pods.len(), nodes);
    (world, pods)
}

fn is_over(world: &mut World) -> bool {
    // The pods that have not ended may still end.
    world.advance(secs(3));
    !take_resumes(world).is_empty()
}

#[test]
fn a_hold_does_not_wait_for_a_node_that_is_not_ready() {
    let (mut world, pods) = started(3);
    world.acknowledge(&pods);
    world.pull(&pods[..2]);
    assert!(!is_over(&mut world));
    world.node_with("n003", &not_ready());
    assert!(is_over(&mut world));
    assert_eq!(world.pending(), 1, "its pull goes on");
    assert!(world.take_deletes().is_empty());
}

#[test]
fn a_node_that_is_ready_again_is_waited_for_again() {
    let (mut world, pods) = started(3);
    world.acknowledge(&pods);
    world.node_with("n003", &not_ready());
    world.node("n003");
    world.pull(&pods[..2]);
    assert!(!is_over(&mut world));
    world.pull(&pods[2..]);
    assert!(is_over(&mut world));
}

#[test]
fn a_hold_does_not_wait_for_a_kubelet_that_is_silent() {
    let (mut world, pods) = started(3);
    world.advance(secs(1));
    world.acknowledge(&pods[..2]);
    world.pull(&pods[..2]);
    world.advance(secs(19) - MOMENT);
    assert!(take_resumes(&mut world).is_empty());
    world.advance(MOMENT);
    assert!(is_over(&mut world));
    let notes = world.take_events(EventReason::PrefetchFailed);
    assert!(
        notes.len() == 1 && notes[0].contains("n003") && notes[0].contains("20 s"),
        "{notes:?}"
    );
    let silent = |line: &&LogLine| matches!(line, LogLine::NodeSilent(_));
    assert_eq!(world.logs.iter().filter(silent).count(), 1);
}

#[test]
fn the_end_of_a_hold_says_that_a_node_was_not_waited_for() {
    let (mut world, pods) = started(3);
    world.pull(&pods[..2]);
    world.advance(secs(23));
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let notes = resumed(&mut world);
    for part in ["on 2 of 3 nodes; 1 node not waited for", "n003"] {
        assert!(notes[0].contains(part), "{notes:?}");
    }
}

#[test]
fn a_slow_pull_is_not_silence() {
    let (mut world, pods) = started(3);
    world.acknowledge(&pods);
    world.pull(&pods[..2]);
    world.advance(secs(200));
    assert!(take_resumes(&mut world).is_empty());
    assert!(world.take_events(EventReason::PrefetchFailed).is_empty());
}

#[test]
fn a_kubelet_has_three_times_as_long_as_the_others_needed() {
    let (mut world, pods) = started(3);
    world.advance(secs(15));
    world.acknowledge(&pods[..2]);
    world.pull(&pods[..2]);
    world.advance(secs(30) - MOMENT);
    assert!(take_resumes(&mut world).is_empty());
    world.advance(MOMENT);
    assert!(is_over(&mut world));
}

#[test]
fn a_kubelet_that_answers_late_is_waited_for_again() {
    let (mut world, pods) = started(3);
    world.acknowledge(&pods[..2]);
    world.advance(secs(20));
    world.acknowledge(&pods[2..]);
    world.pull(&pods[..2]);
    assert!(!is_over(&mut world));
    world.pull(&pods[2..]);
    assert!(is_over(&mut world));
}

#[test]
fn a_hold_ends_when_no_kubelet_answers() {
    let (mut world, _) = started(2);
    world.advance(secs(20));
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let notes = resumed(&mut world);
    assert!(
        notes[0].contains("no node can take the images"),
        "{notes:?}"
    );
}

#[test]
fn a_kubelet_that_is_silent_for_one_deployment_holds_up_no_other() {
    let limits = PullLimits {
        per_node: 1,
        ..PullLimits::default()
    };
    let mut world = World::with(ControllerConfig { limits, ..config() });
    world.kubelets_answer = false;
    world.nodes(2);
    world.deploy(web("first", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods[..1]);
    world.advance(secs(20));
    // The silent node has no slot for it.
    let object = hold(&world, "web", &["b:1"]);
    world.deploy(object);
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["n001"]);
    world.pull(&pods);
    assert!(is_over(&mut world));
}

#[test]
fn what_is_known_of_a_silent_kubelet_goes_with_its_pod() {
    let mut world = World::new();
    world.kubelets_answer = false;
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.advance(secs(20));
    let left = format!("{:?}", world.controller.parts.pulls.silent);
    assert!(left.contains("n001") && left.contains("n002"), "{left}");
    world.delete_deployment("web");
    for (id, uid) in world.take_deletes() {
        let of_uid = |pod: &&Pod| pod.metadata.uid.as_ref() == Some(&uid);
        world.hide(pods.iter().find(of_uid).unwrap());
        world.finish(id, CommandResult::PodDeleted(Ok(())));
    }
    world.advance(secs(600));
    let left = format!("{:?}", world.controller);
    assert!(!left.contains("\"web\""), "{left}");
}

#[test]
fn a_hold_does_not_wait_for_a_node_that_refuses_the_pod() {
    let (mut world, pods) = started(2);
    world.reject(&pods[1..]);
    world.pull(&pods[..1]);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let failed = world.take_events(EventReason::PrefetchFailed);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains("n002") && failed[0].contains("OutOfpods"));
    assert!(!failed[0].contains("a:1"), "{failed:?}");
    let notes = resumed(&mut world);
    assert!(
        notes[0].contains("on 1 of 2 nodes; 1 node not"),
        "{notes:?}"
    );
    assert!(notes[0].contains("OutOfpods"), "{notes:?}");
}

#[test]
fn a_node_that_refused_a_pod_is_tried_again_and_counts_when_it_takes_one() {
    let (mut world, pods) = started(3);
    world.reject(&pods[2..]);
    world.acknowledge(&pods[..2]);
    world.advance(secs(10));
    let deletes = world.take_deletes();
    assert_eq!(deletes.len(), 1, "the pod that was refused");
    world.hide(&pods[2]);
    world.finish(deletes[0].0, CommandResult::PodDeleted(Ok(())));
    let again = world.create_all();
    assert_eq!(nodes_of(&again), ["n003"]);
    world.pull(&pods[..1]);
    world.acknowledge(&again);
    world.pull(&pods[1..2]);
    assert!(!is_over(&mut world), "it pulls now");
    world.pull(&again);
    assert!(is_over(&mut world));
}

#[test]
fn a_hold_of_nodes_that_all_refuse_the_pod_ends_at_once() {
    let (mut world, pods) = started(2);
    world.reject(&pods);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let notes = resumed(&mut world);
    assert!(
        notes[0].contains("no node can take the images") && notes[0].contains("OutOfpods"),
        "{notes:?}"
    );
}

/// A rollout that waits for n003 alone, where a pull of another namespace hangs.
fn behind_another() -> (World, Pod) {
    let (mut world, pods) = started(3);
    world.acknowledge(&pods);
    world.namespace("other", "enabled");
    let mut other = web("web", &["big:1"]);
    other["metadata"]["namespace"] = json!("other");
    world.deploy(other);
    let theirs = world.create_all();
    world.acknowledge(&theirs);
    world.pull(&theirs[..2]);
    world.pull(&pods[..2]);
    (world, theirs[2].clone())
}

#[test]
fn a_hold_does_not_wait_behind_a_pull_of_another_namespace_without_progress() {
    let (mut world, _) = behind_another();
    world.advance(secs(10) - MOMENT);
    assert!(take_resumes(&mut world).is_empty());
    world.advance(MOMENT);
    world.advance(secs(3));
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let notes = resumed(&mut world);
    for part in [
        "on 2 of 3 nodes; 1 node not waited for",
        "another namespace",
    ] {
        assert!(notes[0].contains(part), "{notes:?}");
    }
}

#[test]
fn a_hold_waits_again_when_the_other_pull_has_ended() {
    let (mut world, hanging) = behind_another();
    world.advance(secs(5));
    world.pull(&[hanging]);
    world.advance(secs(60));
    assert!(take_resumes(&mut world).is_empty());
}
