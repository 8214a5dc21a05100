//! Tests of the answers to creates: pauses, repeats, and pods that are not visible yet.

use super::kubelet::*;
use super::world::*;
use crate::controller::command::{Command, CommandResult, WriteError};
use crate::controller::observation::Observation;
use crate::event::EventReason;
use std::time::Duration;

fn one_node() -> World {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    world
}

#[test]
fn a_quota_is_reported_once_and_asked_again_after_half_a_minute() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(web("web", &["a:1"]));
    assert_eq!(world.fail_creates(&refused("exceeded quota")), 3);
    assert_eq!(world.take_events(EventReason::PrefetchBlocked).len(), 1);
    world.advance(secs(14));
    assert!(world.take_creates().is_empty());
    world.advance(secs(16));
    assert_eq!(world.create_all().len(), 3);
}

#[test]
fn a_busy_api_server_is_asked_again_after_pauses_that_double() {
    let mut world = one_node();
    for pause in [250, 500, 1000, 2000, 4000, 8000] {
        assert_eq!(world.fail_creates(&unavailable()), 1);
        world.advance(Duration::from_millis(pause - 1));
        assert!(world.commands.is_empty());
        world.advance(Duration::from_millis(1));
    }
    assert_eq!(world.fail_creates(&unavailable()), 1, "the seventh attempt");
    world.advance(secs(4));
    assert!(
        world.take_creates().is_empty(),
        "the node waits for its next turn"
    );
    world.advance(secs(6));
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn the_pause_is_at_least_what_the_api_server_asks_for() {
    let mut world = one_node();
    world.fail_creates(&WriteError::Unavailable {
        message: "busy".into(),
        retry_after: Some(secs(3)),
    });
    world.advance(Duration::from_millis(2999));
    assert!(world.take_creates().is_empty());
    world.advance(Duration::from_millis(1));
    assert_eq!(world.take_creates().len(), 1);
}

#[test]
fn a_node_whose_creates_always_fail_is_abandoned_after_five_turns() {
    let mut world = one_node();
    let mut attempts = 0;
    for _ in 0..200 {
        attempts += world.fail_creates(&unavailable());
        world.advance(secs(10));
    }
    assert_eq!(attempts, 5 * 7);
    assert_eq!(world.pending(), 0);
}

#[test]
fn a_create_without_an_answer_is_repeated_and_finds_its_pod() {
    let mut world = one_node();
    let creates = world.take_creates();
    let pod = world.stored(creates[0].1.clone());
    let unknown = WriteError::Unknown("reset".into());
    world.finish(creates[0].0, CommandResult::PodCreated(Err(unknown)));
    world.advance(secs(1));
    let again = world.take_creates();
    assert_eq!(again[0].1.metadata.name, creates[0].1.metadata.name);
    world.finish(again[0].0, CommandResult::PodCreated(Ok(None)));
    world.show(&pod);
    world.pull(&[pod]);
    assert_eq!(world.pending(), 0);
}

#[test]
fn a_create_that_was_not_sent_without_the_lease_is_sent_again_after_a_pause() {
    let mut world = one_node();
    world.fail_creates(&WriteError::NotLeader);
    assert!(world.take_creates().is_empty(), "not without a pause");
    world.advance(secs(1));
    assert_eq!(world.take_creates().len(), 1);
}

#[test]
fn no_second_pod_is_created_before_the_first_is_visible() {
    let mut world = one_node();
    let creates = world.take_creates();
    let pod = world.stored(creates[0].1.clone());
    let uid = pod.metadata.uid.clone();
    world.finish(creates[0].0, CommandResult::PodCreated(Ok(uid)));
    world.deploy(web("web", &["a:2"]));
    assert!(
        world.take_creates().is_empty(),
        "the pod of a:1 is not visible"
    );
    world.advance(secs(1));
    world.show(&pod);
    assert_eq!(world.take_creates().len(), 1);
    let lag = Observation::WatchLag(secs(1));
    assert!(
        world.observations.contains(&lag),
        "{:?}",
        world.observations
    );
}

#[test]
fn a_pod_that_never_becomes_visible_is_given_up_after_a_minute() {
    let mut world = one_node();
    let creates = world.take_creates();
    let uid = Some("never-seen".to_owned());
    world.finish(creates[0].0, CommandResult::PodCreated(Ok(uid)));
    world.advance(secs(59));
    assert!(world.take_creates().is_empty());
    world.advance(secs(12));
    assert_eq!(world.take_creates().len(), 1);
}

#[test]
fn a_pod_that_ended_without_its_images_is_deleted_before_its_successor_is_created() {
    let mut world = one_node();
    let pods = world.create_all();
    world.reject(&pods);
    world.advance(secs(10));
    let deletes = world.take_deletes();
    assert_eq!(deletes[0].1, "pod-1");
    assert!(world.take_creates().is_empty());
    world.finish(deletes[0].0, CommandResult::PodDeleted(Ok(())));
    let creates = world.take_creates();
    assert_eq!(creates[0].1.metadata.name, pods[0].metadata.name);
}

#[test]
fn the_newest_images_win_while_creates_are_in_flight() {
    let mut world = one_node();
    let old = world.take_creates();
    world.deploy(web("web", &["a:2"]));
    assert!(
        world.take_creates().is_empty(),
        "the create of a:1 has no answer"
    );
    world.finish(old[0].0, CommandResult::PodCreated(Err(unavailable())));
    let new = world.take_creates();
    assert_eq!(new.len(), 1, "a:1 is not tried again");
    assert_ne!(new[0].1.metadata.name, old[0].1.metadata.name);
}

#[test]
fn a_retry_whose_images_changed_is_not_sent() {
    let mut world = one_node();
    world.fail_creates(&unavailable());
    world.deploy(web("web", &["a:2"]));
    let creates = world.create_all();
    assert_eq!(creates.len(), 1);
    world.advance(secs(20));
    assert!(world.take_creates().is_empty());
}

#[test]
fn every_command_has_its_own_number() {
    let mut world = World::new();
    world.nodes(8);
    world.deploy(web("web", &["a:1"]));
    let mut ids: Vec<_> = world.commands.iter().map(Command::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8);
}

#[test]
fn the_pods_that_a_quota_has_room_for_are_not_created_again() {
    let mut world = World::new();
    world.nodes(5);
    world.deploy(web("web", &["a:1"]));
    for (index, (id, pod)) in world.take_creates().into_iter().enumerate() {
        if index < 3 {
            let pod = world.store_pod(id, pod);
            world.pull(&[pod]);
        } else {
            let error = refused("exceeded quota");
            world.finish(id, CommandResult::PodCreated(Err(error)));
        }
    }
    world.advance(secs(14));
    assert!(world.take_creates().is_empty());
    assert_eq!(world.take_events(EventReason::PrefetchBlocked).len(), 1);
    world.advance(secs(16));
    let rest = world.create_all();
    assert_eq!(nodes_of(&rest), ["n004", "n005"]);
    world.pull(&rest);
    let notes = world.take_events(EventReason::Prefetched);
    assert!(notes[0].contains("on 5 nodes"), "{notes:?}");
}

#[test]
fn pods_in_flight_while_the_images_change_are_waited_for_and_what_they_pull_counts() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(web("web", &["a:1", "common:1"]));
    let old = world.take_creates();
    world.deploy(web("web", &["a:2", "common:1"]));
    let mut pods = Vec::new();
    for (id, pod) in old {
        let pod = world.stored(pod);
        let uid = pod.metadata.uid.clone();
        world.finish(id, CommandResult::PodCreated(Ok(uid)));
        pods.push(pod);
    }
    assert!(world.commands.is_empty(), "{:?}", world.commands);
    world.pull(&pods);
    let new = world.create_all();
    assert_eq!(nodes_of(&new), ["n001", "n002", "n003"]);
    assert!(new.iter().all(|pod| image_count(pod) == 1), "{new:?}");
    world.pull(&new);
    assert_eq!((world.pending(), world.take_creates().len()), (0, 0));
}
