//! Tests of the effects of the pods on a node.

use super::kubelet::*;
use super::world::*;
use crate::controller::observation::Observation;
use crate::event::EventReason;
use crate::pod::status::{FailureKind, ImageStatus};
use serde_json::json;

fn failures(world: &mut World) -> Vec<String> {
    world.take_events(EventReason::PrefetchFailed)
}

#[test]
fn a_failure_that_may_pass_is_reported_and_the_pull_goes_on() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.fail_pulls(&pods, "dial tcp: i/o timeout");
    assert!(failures(&mut world)[0].contains("Transient"));
    assert_eq!(world.pending(), 1);
    world.pull(&pods);
    assert_eq!(world.pending(), 0);
    assert_eq!(world.take_events(EventReason::Prefetched).len(), 1);
}

#[test]
fn each_class_of_failure_of_an_image_is_reported_once() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.fail_pulls(&pods, NOT_FOUND);
    world.fail_pulls(&pods, "dial tcp: i/o timeout");
    world.fail_pulls(&pods, NOT_FOUND);
    assert_eq!(
        failures(&mut world).len(),
        1,
        "a node that failed counts only success"
    );
    assert_eq!(world.pending(), 0);
}

#[test]
fn a_permanent_failure_counts_until_the_pod_succeeds_after_all() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.fail_pulls(&pods, NOT_FOUND);
    assert_eq!(world.pending(), 0);
    world.advance(secs(10));
    world.pull(&pods);
    assert_eq!(world.take_events(EventReason::Prefetched).len(), 1);
}

#[test]
fn a_node_that_refuses_its_pod_is_tried_five_times() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    for attempt in 1..=5 {
        let deletes = world.take_deletes();
        for (id, _) in deletes {
            world.finish(id, crate::controller::CommandResult::PodDeleted(Ok(())));
        }
        let pods = world.create_all();
        assert_eq!(pods.len(), 1, "attempt {attempt}");
        world.reject(&pods);
        world.advance(secs(300));
    }
    assert_eq!((world.pending(), world.take_creates().len()), (0, 0));
}

#[test]
fn a_pod_that_is_gone_before_its_result_is_counted_as_lost() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.hide(&pods[0]);
    assert!(world.observations.contains(&Observation::PodLost));
    world.advance(secs(10));
    assert_eq!(world.take_creates().len(), 1);
}

#[test]
fn images_common_to_two_sets_are_pulled_once() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1", "common:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    world.deploy(web("web", &["a:2", "common:1"]));
    let pods = world.create_all();
    assert_eq!(image_count(&pods[0]), 1);
}

#[test]
fn a_rollback_finds_its_images_present() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    world.run_to_end();
    world.deploy(web("web", &["a:2"]));
    world.run_to_end();
    world.deploy(web("web", &["a:1"]));
    assert!(world.take_creates().is_empty());
    assert_eq!(world.pending(), 0);
}

#[test]
fn the_time_from_the_admission_to_the_pull_is_recorded_once_for_each_node() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.advance(secs(7));
    world.pull(&pods);
    world.pull(&pods);
    let pulled = Observation::NodePulled(secs(7));
    assert_eq!(
        world.observations.iter().filter(|o| **o == pulled).count(),
        2
    );
}

#[test]
fn a_new_leader_records_no_duration_for_what_was_present() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    world.run_to_end();
    let mut world = world.new_leader(config());
    world.observations.clear();
    world.advance(secs(5));
    let pulled = |o: &&Observation| matches!(o, Observation::NodePulled(_));
    assert_eq!(world.observations.iter().find(pulled), None);
}

#[test]
fn a_new_leader_on_the_same_store_sends_no_command() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(web("web", &["a:1"]));
    world.run_to_end();
    let mut world = world.new_leader(config());
    world.advance(secs(60));
    assert!(world.commands.is_empty(), "{:?}", world.commands);
}

#[test]
fn the_result_of_a_pod_is_recorded_by_its_worst_image() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.fail_pulls(&pods, NOT_FOUND);
    let finished = world.observations.iter().find_map(|o| match o {
        Observation::PodFinished(pod) => Some(pod),
        _ => None,
    });
    let images = &finished.unwrap().images;
    let not_found = |image: &ImageStatus| match image {
        ImageStatus::Failed(failure) => failure.kind == FailureKind::NotFound,
        _ => false,
    };
    assert!(images.iter().all(not_found));
}

#[test]
fn where_the_rollout_pulls_by_itself_the_node_comes_last() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": rolling()})));
    assert!(
        world.commands.is_empty(),
        "it is not known where pods start"
    );
    world.advance(std::time::Duration::from_millis(400));
    world.answer_list(["n002"]);
    assert_eq!(nodes_of(&world.create_all()), ["n001", "n003"]);
    world.advance(secs(9));
    assert!(world.take_creates().is_empty());
    world.advance(secs(1));
    assert_eq!(nodes_of(&world.create_all()), ["n002"]);
}

#[test]
fn deferred_nodes_get_their_pods_when_the_rollout_is_complete() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": rolling()})));
    world.advance(std::time::Duration::from_millis(400));
    world.answer_list(["n001", "n002", "n003"]);
    assert_eq!(world.create_all().len(), 1, "one node is never deferred");
    world.deploy(web("web", &["a:1"]));
    assert_eq!(world.create_all().len(), 2);
}

#[test]
fn a_list_that_fails_defers_nothing() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": rolling()})));
    world.advance(std::time::Duration::from_millis(400));
    world.fail_list();
    assert_eq!(world.create_all().len(), 3);
}

#[test]
fn a_node_that_refuses_its_pod_is_tried_again_after_pauses_and_the_others_are_not() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(web("web", &["a:1"]));
    let mut pods = world.create_all();
    let mut refused = pods.remove(0);
    world.pull(&pods);
    let moment = std::time::Duration::from_millis(1);
    for pause in [5, 10] {
        world.reject(std::slice::from_ref(&refused));
        world.advance(secs(pause) - moment);
        assert!(world.commands.is_empty(), "{:?}", world.commands);
        world.advance(secs(pause) + moment);
        let deletes = world.take_deletes();
        assert_eq!(deletes.len(), 1, "the pod that was refused");
        world.hide(&refused);
        let deleted = crate::controller::CommandResult::PodDeleted(Ok(()));
        world.finish(deletes[0].0, deleted);
        let again = world.create_all();
        assert_eq!(nodes_of(&again), [node_of(&refused)]);
        refused = again.into_iter().next().unwrap();
    }
    world.pull(&[refused]);
    let notes = world.take_events(EventReason::Prefetched);
    assert!(notes[0].contains("on 3 nodes"), "{notes:?}");
}
