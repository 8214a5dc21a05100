//! Pods that are no longer needed, and prefetches that are finished.

use super::kubelet::*;
use super::world::*;
use crate::controller::command::{CommandResult, WriteError};
use crate::controller::{ControllerConfig, Stats};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

/// A world with pods that have pulled.
fn pulled(nodes: usize) -> (World, Vec<Pod>) {
    let mut world = World::new();
    world.nodes(nodes);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    (world, pods)
}

#[test]
fn finished_pods_are_deleted_when_their_retention_is_over() {
    let (mut world, _) = pulled(2);
    world.advance(secs(599));
    assert!(world.take_deletes().is_empty());
    world.advance(secs(1));
    assert_eq!(world.take_deletes().len(), 2);
}

#[test]
fn finished_pods_stay_while_the_rollout_goes_on() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": rolling()})));
    let pods = world.create_all();
    world.pull(&pods);
    world.advance(secs(5000));
    assert!(world.take_deletes().is_empty());
    let done = settled(world.now.wall.as_second());
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": done})));
    world.advance(secs(601));
    assert_eq!(world.take_deletes().len(), 1);
}

#[test]
fn pods_of_an_earlier_image_set_that_have_pulled_nothing_go_at_once() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    world.create_all();
    world.deploy(web("web", &["a:2"]));
    let deletes = world.take_deletes();
    assert_eq!(deletes[0].1, "pod-1");
}

#[test]
fn the_pods_of_a_deployment_that_is_gone_are_deleted() {
    let (mut world, _) = pulled(3);
    world.delete_deployment("web");
    assert_eq!(world.take_deletes().len(), 3);
}

#[test]
fn the_pods_of_a_namespace_that_is_disabled_are_deleted() {
    let (mut world, _) = pulled(3);
    world.namespace("shop", "disabled");
    assert_eq!(world.take_deletes().len(), 3);
}

#[test]
fn a_quarter_as_many_deletes_as_creates_are_in_flight() {
    let mut world = World::with(ControllerConfig {
        max_writes: 8,
        ..config()
    });
    world.nodes(6);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    world.delete_deployment("web");
    let first = world.take_deletes();
    assert_eq!(first.len(), 2);
    world.finish(first[0].0, CommandResult::PodDeleted(Ok(())));
    assert_eq!(world.take_deletes().len(), 1);
}

#[test]
fn a_delete_that_fails_is_sent_again_after_a_pause() {
    let (mut world, _) = pulled(1);
    world.delete_deployment("web");
    let deletes = world.take_deletes();
    world.finish(deletes[0].0, CommandResult::PodDeleted(Err(unavailable())));
    assert!(world.take_deletes().is_empty());
    world.advance(std::time::Duration::from_millis(250));
    let again = world.take_deletes();
    assert_eq!(again[0].1, deletes[0].1);
}

#[test]
fn a_delete_that_ends_with_the_lease_is_not_reported() {
    for error in [WriteError::NotLeader, WriteError::LeaseEnded] {
        let (mut world, _) = pulled(1);
        world.delete_deployment("web");
        let deletes = world.take_deletes();
        world.logs.clear();
        world.finish(deletes[0].0, CommandResult::PodDeleted(Err(error)));
        assert!(world.logs.is_empty(), "{:?}", world.logs);
    }
}

#[test]
fn a_pod_that_is_still_there_two_minutes_after_its_deletion_is_deleted_again() {
    let (mut world, pods) = pulled(1);
    world.delete_deployment("web");
    let deletes = world.take_deletes();
    world.finish(deletes[0].0, CommandResult::PodDeleted(Ok(())));
    world.advance(secs(119));
    assert!(world.take_deletes().is_empty());
    world.advance(secs(1));
    let again = world.take_deletes();
    assert_eq!(again.len(), 1);
    world.hide(&pods[0]);
    world.finish(
        again[0].0,
        CommandResult::PodDeleted(Err(WriteError::Unknown("reset".into()))),
    );
    world.advance(secs(600));
    assert!(world.take_deletes().is_empty(), "the pod is gone");
}

#[test]
fn a_finished_prefetch_leaves_nothing_behind() {
    let (mut world, pods) = pulled(3);
    world.advance(secs(601));
    for (id, _) in world.take_deletes() {
        world.finish(id, CommandResult::PodDeleted(Ok(())));
    }
    for pod in &pods {
        world.hide(pod);
    }
    world.delete_deployment("web");
    world.advance(secs(1200));
    assert_eq!(
        world.controller.stats(world.now.monotonic),
        Stats::default()
    );
    let left = format!("{:?}", world.controller);
    assert!(!left.contains("uid-web"), "{left}");
    assert_eq!(world.controller.next_timeout(), None);
}

#[test]
fn pods_of_a_disabled_namespace_go_though_a_create_was_waiting_for_its_retry() {
    let (mut world, _) = pulled(1);
    world.deploy(web("web", &["a:2"]));
    world.fail_creates(&unavailable());
    world.namespace("shop", "disabled");
    world.advance(secs(10));
    assert_eq!(world.take_deletes().len(), 1);
}
