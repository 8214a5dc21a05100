//! Answers of registries that a hold does not believe at once.

use super::holds::*;
use super::kubelet::*;
use super::world::*;
use crate::controller::command::ResumeOutcome;
use crate::event::EventReason;
use crate::store::NodeName;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::time::Duration;

/// Lets this time pass, and says that the hold goes on until its last moment and is over then.
#[track_caller]
fn ends_after(world: &mut World, duration: Duration) {
    world.advance(duration - Duration::from_millis(1));
    assert!(take_resumes(world).is_empty(), "before {duration:?}");
    world.advance(Duration::from_millis(1));
    answer(world, Ok(ResumeOutcome::Resumed));
    let notes = resumed(world);
    assert!(notes[0].contains("cannot be had"), "{notes:?}");
}

fn started(nodes: usize) -> (World, Vec<Pod>) {
    let mut world = held(nodes);
    let pods = world.create_all();
    assert_eq!(pods.len(), nodes);
    (world, pods)
}

#[test]
fn refused_credentials_end_a_hold_after_ten_seconds() {
    let (mut world, pods) = started(2);
    world.fail_pulls(&pods, UNAUTHORIZED);
    assert_eq!(world.take_events(EventReason::PrefetchFailed).len(), 1);
    ends_after(&mut world, secs(10));
}

#[test]
fn refused_credentials_end_a_hold_with_the_second_attempt() {
    let (mut world, pods) = started(2);
    world.fail_pulls(&pods, UNAUTHORIZED);
    world.advance(secs(1));
    world.back_off(&pods, UNAUTHORIZED);
    world.advance(secs(1));
    assert!(take_resumes(&mut world).is_empty());
    world.fail_pulls(&pods, UNAUTHORIZED);
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_pull_secret_that_comes_late_does_not_cost_the_hold() {
    let (mut world, pods) = started(2);
    world.fail_pulls(&pods, UNAUTHORIZED);
    world.advance(secs(8));
    world.pull(&pods);
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    assert!(resumed(&mut world)[0].contains("on 2 of 2 nodes"));
}

#[test]
fn refused_credentials_on_the_canary_hold_back_the_other_nodes_meanwhile() {
    let (mut world, pods) = {
        let mut world = held(20);
        let pods = world.create_all();
        (world, pods)
    };
    assert_eq!(pods.len(), 2);
    world.fail_pulls(&pods, UNAUTHORIZED);
    world.advance(secs(5));
    assert!(world.take_creates().is_empty());
    ends_after(&mut world, secs(5));
}

#[test]
fn other_credentials_begin_anew() {
    let (mut world, pods) = started(1);
    world.fail_pulls(&pods, UNAUTHORIZED);
    world.advance(secs(6));
    let secret = json!({"spec": {"template": {"spec": {"imagePullSecrets": [{"name": "new"}]}}}});
    let mut object = merged(hold(&world, "web", &["a:1"]), &secret);
    let since = world.store.get(&key("web")).unwrap().0.state.held.unwrap();
    object["metadata"]["annotations"] = json!({
        "headstart.dev/held-since": since.since, "headstart.dev/held-until": since.until,
    });
    world.deploy(object);
    world.advance(secs(6));
    assert!(take_resumes(&mut world).is_empty());
    world.hide(&pods[0]);
    for (id, _) in world.take_deletes() {
        world.finish(id, crate::controller::CommandResult::PodDeleted(Ok(())));
    }
    let pods = world.create_all();
    world.fail_pulls(&pods, UNAUTHORIZED);
    ends_after(&mut world, secs(10));
}

#[test]
fn a_registry_that_does_not_exist_ends_a_hold_within_thirty_seconds() {
    for nodes in [1, 2, 20] {
        let mut world = held(nodes);
        let pods = world.create_all();
        world.fail_pulls(&pods, NO_SUCH_HOST);
        assert_eq!(world.pending(), nodes, "it is tried on");
        for _ in 0..19 {
            world.advance(secs(1));
            assert!(take_resumes(&mut world).is_empty());
            let more = world.create_all();
            world.fail_pulls(&more, NO_SUCH_HOST);
        }
        ends_after(&mut world, secs(1));
        assert_eq!(world.pending(), nodes, "it is tried on");
    }
}

#[test]
fn a_registry_that_two_attempts_do_not_find_ends_a_hold() {
    let (mut world, pods) = started(2);
    world.fail_pulls(&pods, NO_SUCH_HOST);
    world.advance(secs(2));
    world.back_off(&pods, NO_SUCH_HOST);
    world.advance(secs(2));
    world.fail_pulls(&pods, NO_SUCH_HOST);
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_registry_that_is_down_is_waited_for() {
    let (mut world, pods) = started(2);
    world.fail_pulls(&pods, "dial tcp 10.0.0.1:443: connect: connection refused");
    world.advance(secs(299));
    assert!(take_resumes(&mut world).is_empty());
}

#[test]
fn a_node_that_alone_does_not_find_the_registry_is_not_waited_for() {
    let (mut world, pods) = started(3);
    world.fail_pulls(&pods[..1], NO_SUCH_HOST);
    world.advance(secs(20));
    assert!(take_resumes(&mut world).is_empty(), "the others pull");
    world.pull(&pods[1..]);
    world.advance(secs(3));
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    assert!(resumed(&mut world)[0].contains("on 2 of 3 nodes"));
}

#[test]
fn a_registry_that_is_found_after_all_is_waited_for() {
    let (mut world, pods) = started(2);
    world.fail_pulls(&pods, NO_SUCH_HOST);
    world.advance(secs(15));
    world.fail_pulls(&pods, "dial tcp: i/o timeout");
    world.advance(secs(60));
    assert!(take_resumes(&mut world).is_empty());
    world.pull(&pods);
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn answers_of_a_node_that_is_gone_are_forgotten() {
    let (mut world, pods) = started(2);
    world.fail_pulls(&pods[..1], NO_SUCH_HOST);
    world.delete_node("n001");
    let prefetch = &world.controller.parts.pulls.prefetches[&key("web")];
    let left: Vec<&NodeName> = prefetch.nodes.answers.nodes().collect();
    assert!(left.is_empty(), "{left:?}");
}
