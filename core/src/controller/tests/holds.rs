//! Held rollouts.

use super::kubelet::*;
use super::world::*;
use crate::controller::ControllerConfig;
use crate::controller::command::{Command, CommandId, CommandResult, ResumeOutcome, WriteError};
use crate::event::EventReason;
use serde_json::{Value, json};

/// Marks and pauses a Deployment, as the webhook does.
pub(super) fn hold(world: &World, name: &str, images: &[&str]) -> Value {
    let until = world.now.wall.checked_add(secs(300)).unwrap();
    let marks = json!({
        "metadata": {
            "labels": {"headstart.dev/held": "true"},
            "annotations": {"headstart.dev/held-since": world.now.wall, "headstart.dev/held-until": until},
        },
        "spec": {"paused": true},
    });
    merged(web(name, images), &marks)
}

pub(super) fn held(nodes: usize) -> World {
    let mut world = World::new();
    world.nodes(nodes);
    let object = hold(&world, "web", &["a:1"]);
    world.deploy(object);
    world
}

pub(super) fn take_resumes(world: &mut World) -> Vec<(CommandId, bool)> {
    let is_resume = |command: &mut Command| matches!(command, Command::ResumeRollout { .. });
    let resumes = world.commands.extract_if(.., is_resume);
    resumes
        .map(|command| match command {
            Command::ResumeRollout { id, only_if, .. } => (id, only_if.is_some()),
            _ => unreachable!(),
        })
        .collect()
}

pub(super) fn answer(world: &mut World, outcome: Result<ResumeOutcome, WriteError>) {
    let resumes = take_resumes(world);
    assert_eq!(resumes.len(), 1);
    world.finish(resumes[0].0, CommandResult::Resumed(outcome));
}

pub(super) fn resumed(world: &mut World) -> Vec<String> {
    world.take_events(EventReason::RolloutResumed)
}

#[test]
fn a_held_rollout_is_reported_once_and_resumed_when_its_images_are_present() {
    let mut world = held(2);
    assert_eq!(world.take_events(EventReason::RolloutHeld).len(), 1);
    let pods = world.create_all();
    world.pull(&pods[..1]);
    assert!(take_resumes(&mut world).is_empty());
    world.advance(secs(4));
    world.pull(&pods[1..]);
    let resumes = take_resumes(&mut world);
    assert!(resumes[0].1, "only for these images");
    world.finish(
        resumes[0].0,
        CommandResult::Resumed(Ok(ResumeOutcome::Resumed)),
    );
    let notes = resumed(&mut world);
    assert!(notes[0].contains("on 2 of 2 nodes"), "{notes:?}");
    world.deploy(web("web", &["a:1"]));
    assert!(resumed(&mut world).is_empty(), "it was headstart");
}

#[test]
fn a_rollout_waits_at_most_three_seconds_for_pods_that_end_late() {
    let mut world = held(1);
    let pods = world.create_all();
    let mut running = world.pulled(&pods[0]);
    running.status.as_mut().unwrap().phase = Some("Running".into());
    world.show(&running);
    world.advance(std::time::Duration::from_millis(2999));
    assert!(take_resumes(&mut world).is_empty());
    world.advance(std::time::Duration::from_millis(1));
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn an_expired_hold_is_resumed() {
    let mut world = held(1);
    world.create_all();
    world.advance(secs(299));
    assert!(take_resumes(&mut world).is_empty());
    world.advance(secs(1));
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    assert!(resumed(&mut world)[0].contains("the time is up"));
}

#[test]
fn a_hold_without_a_node_to_wait_for_ends_at_once() {
    let mut world = held(0);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    assert!(resumed(&mut world)[0].contains("no node"));
}

#[test]
fn a_hold_ends_when_an_image_cannot_be_pulled() {
    let mut world = held(2);
    let pods = world.create_all();
    world.fail_pulls(&pods, NOT_FOUND);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    assert!(resumed(&mut world)[0].contains("cannot be had"));
}

#[test]
fn a_hold_ends_when_pods_are_refused() {
    let mut world = held(2);
    world.fail_creates(&refused("exceeded quota"));
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    assert!(resumed(&mut world)[0].contains("refused"));
}

#[test]
fn a_hold_ends_when_its_namespace_does_not_ask_for_it_any_more() {
    let mut world = held(1);
    world.namespace("shop", "enabled");
    assert!(
        take_resumes(&mut world).is_empty(),
        "labels may arrive late"
    );
    world.advance(secs(5));
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn holds_end_where_they_are_switched_off() {
    let mut world = held(1).new_leader(ControllerConfig {
        holds: None,
        ..config()
    });
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    assert!(resumed(&mut world)[0].contains("--hold=off"));
}

#[test]
fn forged_marks_end_at_once_in_every_mode() {
    let far = "2099-01-01T00:00:00Z";
    for (mark, value) in [
        ("headstart.dev/held-since", json!(far)),
        ("headstart.dev/held-since", Value::Null),
        ("headstart.dev/held-until", json!(far)),
    ] {
        for mode in ["disabled", "enabled", "hold"] {
            let mut world = World::new();
            world.nodes(1);
            world.namespace("shop", mode);
            let forged = json!({"metadata": {"annotations": {mark: value}}});
            let object = merged(hold(&world, "web", &["a:1"]), &forged);
            world.deploy(object);
            assert_eq!(take_resumes(&mut world).len(), 1, "{mark} {value} {mode}");
        }
    }
}

#[test]
fn a_rollout_that_another_client_resumes_is_reported_as_such() {
    let mut world = held(1);
    world.deploy(web("web", &["a:1"]));
    assert!(resumed(&mut world)[0].contains("by somebody else"));
    assert!(take_resumes(&mut world).is_empty());
}

#[test]
fn a_mark_that_is_removed_without_the_pause_is_reported() {
    let mut world = held(1);
    world.deploy(merged(
        web("web", &["a:1"]),
        &json!({"spec": {"paused": true}}),
    ));
    assert_eq!(world.take_events(EventReason::RolloutLeftPaused).len(), 1);
}

#[test]
fn a_rollout_that_its_manifest_pauses_stays_paused() {
    let mut world = held(0);
    answer(&mut world, Ok(ResumeOutcome::LeftPaused));
    assert_eq!(world.take_events(EventReason::RolloutLeftPaused).len(), 1);
    assert!(resumed(&mut world).is_empty());
}

#[test]
fn a_resume_that_meets_other_changes_is_repeated_eight_times() {
    let mut world = held(0);
    for _ in 0..8 {
        answer(&mut world, Ok(ResumeOutcome::Conflict));
    }
    assert!(take_resumes(&mut world).is_empty());
    let notes = world.take_events(EventReason::RolloutNotResumed);
    assert!(notes[0].contains("changed 8 times"), "{notes:?}");
    world.advance(secs(5));
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_resume_that_fails_is_tried_again_after_five_seconds_doubled_to_a_minute() {
    let mut world = held(0);
    for pause in [5, 10, 20, 40, 60, 60] {
        answer(&mut world, Err(unavailable()));
        world.advance(secs(pause) - std::time::Duration::from_millis(1));
        assert!(take_resumes(&mut world).is_empty(), "{pause}");
        world.advance(std::time::Duration::from_millis(1));
    }
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_resume_that_fails_is_reported_once_for_each_reason() {
    let mut world = held(0);
    for (error, reported) in [
        (unavailable(), 1),
        (refused("a policy"), 1),
        (unavailable(), 0),
        (refused("the policy"), 0),
    ] {
        answer(&mut world, Err(error.clone()));
        let notes = world.take_events(EventReason::RolloutNotResumed);
        assert_eq!(notes.len(), reported, "{error:?}");
        world.advance(secs(60));
    }
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_resume_that_the_watch_does_not_show_is_repeated_after_a_minute() {
    let mut world = held(0);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    world.advance(secs(59));
    assert!(take_resumes(&mut world).is_empty());
    world.advance(secs(1));
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn other_images_go_on_with_the_same_hold() {
    let mut world = held(1);
    world.create_all();
    world.take_events(EventReason::RolloutHeld);
    let other = merged(
        hold(&world, "web", &["a:1"]),
        &json!({"spec": {"template": {"spec": {"containers": [{"name": "c0", "image": "a:2"}]}}}}),
    );
    world.deploy(other);
    assert_eq!(world.take_events(EventReason::RolloutHeld).len(), 1);
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn a_hold_does_not_wait_for_a_node_that_is_gone() {
    let mut world = held(2);
    let pods = world.create_all();
    world.pull(&pods[..1]);
    world.hide(&pods[1]);
    assert!(take_resumes(&mut world).is_empty());
    world.delete_node("n002");
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_new_leader_ends_a_hold_that_it_finds() {
    let mut world = held(1);
    let pods = world.create_all();
    let mut world = world.new_leader(config());
    assert!(take_resumes(&mut world).is_empty());
    world.pull(&pods);
    assert_eq!(take_resumes(&mut world).len(), 1);
}
