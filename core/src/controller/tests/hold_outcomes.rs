//! Tests of the outcomes of a resume, and of other ends of a hold.

use super::holds::*;
use super::kubelet::*;
use super::world::*;
use crate::controller::command::{Command, CommandResult, Event, ResumeOutcome, WriteError};
use crate::controller::observation::Observation;
use crate::event::EventReason;
use crate::hold::ResumeHealth;
use serde_json::json;
use std::time::Duration;

/// A held rollout whose images are present: its resume is in flight.
fn resuming() -> World {
    let mut world = held(1);
    let pods = world.create_all();
    world.pull(&pods);
    world
}

#[test]
fn a_resume_that_finds_other_images_is_not_sent_again_at_once() {
    let mut world = resuming();
    answer(&mut world, Ok(ResumeOutcome::ImagesChanged));
    assert!(
        take_resumes(&mut world).is_empty(),
        "the watch is behind the API server"
    );
    assert!(resumed(&mut world).is_empty());
    world.advance(secs(5));
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_resume_that_finds_no_hold_is_not_sent_again_at_once() {
    let mut world = resuming();
    answer(&mut world, Ok(ResumeOutcome::NotHeld));
    assert!(
        take_resumes(&mut world).is_empty(),
        "the watch is behind the API server"
    );
    world.deploy(web("web", &["a:1"]));
    assert!(resumed(&mut world)[0].contains("by somebody else"));
}

#[test]
fn images_that_a_resume_found_are_waited_for_and_then_resumed_without_a_pause() {
    let mut world = resuming();
    answer(&mut world, Ok(ResumeOutcome::ImagesChanged));
    let other = hold(&world, "web", &["a:2"]);
    world.deploy(other);
    let pods = world.create_all();
    assert!(take_resumes(&mut world).is_empty());
    world.pull(&pods);
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_resume_that_comes_after_that_of_another_client_says_so() {
    let mut world = resuming();
    answer(&mut world, Ok(ResumeOutcome::AlreadyResumed));
    let notes = resumed(&mut world);
    assert!(notes[0].contains("by somebody else"), "{notes:?}");
}

#[test]
fn the_end_of_a_hold_is_counted_with_its_reason_and_its_length() {
    let mut world = held(1);
    let pods = world.create_all();
    world.advance(secs(42));
    world.pull(&pods);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let ended = Observation::HoldEnded {
        reason: "Warm",
        after: secs(42),
    };
    assert!(
        world.observations.contains(&ended),
        "{:?}",
        world.observations
    );
}

#[test]
fn an_update_that_needs_no_hold_is_reported_as_the_end_of_it() {
    let mut world = held(1);
    world.deploy(web("web", &["fix:1"]));
    let notes = resumed(&mut world);
    assert!(notes[0].contains("an update"), "{notes:?}");
}

#[test]
fn a_share_of_the_nodes_ends_a_hold_that_asks_for_no_more() {
    let mut world = World::new();
    world.nodes(4);
    let half = json!({"metadata": {"annotations": {"headstart.dev/hold-until": "50%"}}});
    let object = merged(hold(&world, "web", &["a:1"]), &half);
    world.deploy(object);
    let pods = world.create_all();
    world.pull(&pods[..1]);
    world.advance(secs(4));
    assert!(take_resumes(&mut world).is_empty());
    world.pull(&pods[1..2]);
    world.advance(secs(3));
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_hold_ends_with_the_limit_though_the_wall_clock_was_set_back() {
    let mut world = held(1);
    world.create_all();
    world.now.wall = world.now.wall.checked_sub(secs(100_000)).unwrap();
    let earlier = json!({"metadata": {"annotations": {
        "headstart.dev/held-since": world.now.wall,
        "headstart.dev/held-until": world.now.wall.checked_add(secs(1800)).unwrap(),
    }}});
    let object = merged(hold(&world, "web", &["a:1"]), &earlier);
    world.deploy(object);
    for _ in 0..6 {
        world.advance(secs(300) - Duration::from_millis(1));
        assert!(take_resumes(&mut world).is_empty());
        world.now.wall = world.now.wall.checked_sub(secs(299)).unwrap();
    }
    world.advance(Duration::from_millis(6));
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_hold_whose_deployment_is_deleted_is_forgotten() {
    let mut world = held(1);
    assert_eq!(world.controller.stats(world.now.monotonic).held, 1);
    world.delete_deployment("web");
    assert_eq!(world.controller.stats(world.now.monotonic).held, 0);
    world.advance(secs(300));
    assert!(take_resumes(&mut world).is_empty() && resumed(&mut world).is_empty());
}

#[test]
fn an_expired_hold_is_resumed_whatever_its_images_are() {
    let mut world = held(1);
    world.create_all();
    world.advance(secs(300));
    let resumes = take_resumes(&mut world);
    assert!(!resumes[0].1, "other images have no time left either");
}

#[test]
fn a_failed_resume_is_repeated_once_in_its_pause_whatever_happens() {
    let mut world = held(0);
    answer(&mut world, Err(unavailable()));
    world.deploy(merged(
        hold(&world, "web", &["a:1"]),
        &json!({"spec": {"replicas": 3}, "status": rolling()}),
    ));
    world.advance(Duration::from_millis(4999));
    assert!(take_resumes(&mut world).is_empty());
    world.advance(Duration::from_millis(1));
    assert_eq!(take_resumes(&mut world).len(), 1);
    assert_eq!(world.take_events(EventReason::RolloutNotResumed).len(), 1);
}

#[test]
fn a_node_that_joins_does_not_shorten_the_plan_of_a_held_rollout() {
    let mut world = World::new();
    world.nodes(2);
    let old = json!({"status": settled(1_700_000_000)});
    world.deploy(merged(web("web", &["a:1"]), &old));
    let young = json!({"metadata": {"creationTimestamp": world.now.wall}});
    world.node_with("new", &young);
    assert_eq!(nodes_of(&world.create_all()), ["new"]);
    let object = merged(hold(&world, "web", &["a:1"]), &old);
    world.deploy(object);
    let is_create = |command: &Command| matches!(command, Command::CreatePod { .. });
    let creates = world.commands.iter().filter(|c| is_create(c)).count();
    assert_eq!(creates, 2, "the hold waits for all nodes");
}

#[test]
fn a_resume_that_ends_with_the_lease_is_not_reported() {
    for error in [WriteError::NotLeader, WriteError::LeaseEnded] {
        let mut world = resuming();
        world.logs.clear();
        answer(&mut world, Err(error));
        assert_eq!(world.take_events(EventReason::RolloutNotResumed).len(), 0);
        assert!(world.logs.is_empty(), "{:?}", world.logs);
        assert!(take_resumes(&mut world).is_empty(), "not without a pause");
        world.advance(secs(5));
        assert_eq!(take_resumes(&mut world).len(), 1);
    }
}

#[test]
fn a_hold_that_another_client_ends_while_its_resume_is_in_flight_is_reported_once() {
    for result in [
        Ok(ResumeOutcome::NotHeld),
        Ok(ResumeOutcome::AlreadyResumed),
        Err(unavailable()),
    ] {
        let mut world = resuming();
        world.deploy(web("web", &["a:1"]));
        assert!(resumed(&mut world).is_empty(), "the answer says by whom");
        answer(&mut world, result.clone());
        let notes = resumed(&mut world);
        assert_eq!(notes.len(), 1, "{result:?}");
        assert!(notes[0].contains("by somebody else"), "{notes:?}");
        let failed = world.take_events(EventReason::RolloutNotResumed);
        assert!(failed.is_empty(), "{failed:?}");
    }
}

#[test]
fn a_resume_whose_answer_is_lost_is_reported_as_done_when_the_watch_shows_it() {
    let lost = || Err(WriteError::Unknown("reset".into()));
    for watch_first in [true, false] {
        let mut world = resuming();
        if watch_first {
            world.deploy(web("web", &["a:1"]));
            answer(&mut world, lost());
        } else {
            answer(&mut world, lost());
            world.deploy(web("web", &["a:1"]));
        }
        let notes = resumed(&mut world);
        assert!(notes[0].contains("on 1 of 1 node"), "{notes:?}");
    }
}

#[test]
fn an_answer_for_a_deployment_that_is_gone_is_not_reported() {
    let mut world = resuming();
    world.delete_deployment("web");
    answer(&mut world, Err(unavailable()));
    assert!(resumed(&mut world).is_empty());
    let failed = world.take_events(EventReason::RolloutNotResumed);
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn without_a_webhook_configuration_every_hold_ends() {
    let mut world = held(1);
    assert!(take_resumes(&mut world).is_empty());
    world.apply(Event::RegistrationChanged(true));
    assert!(take_resumes(&mut world).is_empty());
    world.apply(Event::RegistrationChanged(false));
    assert_eq!(take_resumes(&mut world).len(), 1);
    let again = hold(&world, "api", &["a:1"]);
    world.deploy(again);
    assert_eq!(take_resumes(&mut world).len(), 1, "held by another replica");
    world.apply(Event::RegistrationChanged(true));
    let later = hold(&world, "app", &["a:1"]);
    world.deploy(later);
    assert!(take_resumes(&mut world).is_empty());
}

#[test]
fn resumes_fail_after_30_s_without_one_that_succeeds() {
    let mut world = resuming();
    let health = |world: &World| world.controller.stats(world.now.monotonic).resumes;
    answer(&mut world, Err(unavailable()));
    for _ in 0..29 {
        world.advance(secs(1));
        assert_eq!(health(&world), ResumeHealth::Ok);
        for (id, _) in take_resumes(&mut world) {
            world.finish(id, CommandResult::Resumed(Err(unavailable())));
        }
    }
    world.advance(secs(1));
    assert_eq!(health(&world), ResumeHealth::Failing);
    world.advance(secs(60));
    let (id, _) = take_resumes(&mut world).remove(0);
    world.finish(id, CommandResult::Resumed(Ok(ResumeOutcome::Resumed)));
    assert_eq!(health(&world), ResumeHealth::Ok);
}
