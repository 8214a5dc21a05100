//! Tests of the log, and of the other effects of failures.

use super::kubelet::*;
use super::world::*;
use crate::controller::command::{CommandResult, WriteError};
use crate::controller::log::LogLine;
use crate::event::EventReason;
use serde_json::json;
use std::time::Duration;

fn one_node() -> World {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    world
}

#[test]
fn the_beginning_and_the_end_of_a_prefetch_are_logged() {
    let mut world = World::new();
    world.nodes(2);
    let reports = json!({"status": {"images": [{"names": ["docker.io/library/a:1"]}]}});
    world.node_with("has", &reports);
    let windows = json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}});
    world.node_with("windows", &windows);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    let [
        LogLine::Prefetching {
            count: 1,
            nodes: 2,
            skipped: 1,
            already_present: 1,
            ..
        },
        LogLine::Finished {
            present: 2,
            failed: 0,
            ..
        },
    ] = world.logs.as_slice()
    else {
        panic!("{:?}", world.logs);
    };
}

#[test]
fn a_namespace_that_is_being_deleted_is_logged_as_such() {
    let mut world = one_node();
    world.fail_creates(&refused(
        "unable to create new content in namespace shop because it is being terminated",
    ));
    let going = |line: &LogLine| {
        matches!(
            line,
            LogLine::CreateRefused {
                namespace_is_going: true,
                ..
            }
        )
    };
    assert!(world.logs.iter().any(going), "{:?}", world.logs);
}

#[test]
fn pauses_after_refusals_double_until_a_create_succeeds() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let mut pauses = Vec::new();
    for _ in 0..3 {
        assert!(world.fail_creates(&refused("exceeded quota")) > 0);
        let pause = world.logs.iter().rev().find_map(|line| match line {
            LogLine::CreateRefused { pause, .. } => Some(*pause),
            _ => None,
        });
        pauses.push(pause.unwrap());
        world.advance(pause.unwrap());
    }
    assert_eq!(pauses[1], pauses[0] * 2);
    assert_eq!(pauses[2], pauses[0] * 4);
    let mut creates = world.take_creates();
    let (id, pod) = creates.remove(0);
    world.store_pod(id, pod);
    let error = refused("exceeded quota");
    world.finish(creates[0].0, CommandResult::PodCreated(Err(error)));
    let first = LogLine::CreateRefused {
        at: crate::store::DeploymentNode {
            key: key("web"),
            node: node_of(&creates[0].1).into(),
        },
        error: "exceeded quota".into(),
        pause: pauses[0],
        namespace_is_going: false,
    };
    assert_eq!(world.logs.last(), Some(&first));
}

#[test]
fn other_nodes_are_not_tried_while_the_api_server_refuses_pods() {
    let mut world = one_node();
    world.fail_creates(&refused("exceeded quota"));
    world.node("new");
    world.advance(secs(14));
    assert!(world.take_creates().is_empty());
    assert_eq!(world.take_events(EventReason::PrefetchBlocked).len(), 1);
}

#[test]
fn a_delete_before_a_create_is_repeated_like_a_create() {
    let mut world = one_node();
    let pods = world.create_all();
    world.reject(&pods);
    world.advance(secs(10));
    let first = world.take_deletes();
    world.finish(first[0].0, CommandResult::PodDeleted(Err(unavailable())));
    assert!(world.take_deletes().is_empty());
    world.advance(Duration::from_millis(250));
    let again = world.take_deletes();
    assert_eq!(again[0].1, first[0].1);
    world.finish(again[0].0, CommandResult::PodDeleted(Ok(())));
    assert_eq!(world.take_creates().len(), 1);
}

#[test]
fn a_create_whose_images_changed_during_its_delete_is_not_sent() {
    let mut world = one_node();
    let pods = world.create_all();
    world.reject(&pods);
    world.advance(secs(10));
    let deletes = world.take_deletes();
    world.deploy(web("web", &["a:2"]));
    world.hide(&pods[0]);
    world.finish(deletes[0].0, CommandResult::PodDeleted(Ok(())));
    let creates = world.take_creates();
    assert_eq!(creates.len(), 1);
    assert_ne!(creates[0].1.metadata.name, pods[0].metadata.name);
}

#[test]
fn a_pod_of_earlier_images_that_shows_late_is_deleted() {
    let mut world = one_node();
    let creates = world.take_creates();
    let pod = world.stored(creates[0].1.clone());
    let uid = pod.metadata.uid.clone();
    world.deploy(web("web", &["a:2"]));
    world.finish(creates[0].0, CommandResult::PodCreated(Ok(uid)));
    world.show(&pod);
    assert_eq!(world.take_deletes()[0].1, "pod-1");
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn a_delete_that_is_refused_is_logged_and_sent_again_after_two_minutes() {
    let mut world = one_node();
    world.create_all();
    world.delete_deployment("web");
    let deletes = world.take_deletes();
    let error = refused("admission webhook");
    world.finish(deletes[0].0, CommandResult::PodDeleted(Err(error)));
    let failed = |line: &&LogLine| matches!(line, LogLine::DeleteFailed { .. });
    assert_eq!(world.logs.iter().filter(failed).count(), 1);
    world.advance(secs(119));
    assert!(world.take_deletes().is_empty());
    world.advance(secs(1));
    assert_eq!(world.take_deletes().len(), 1);
}

#[test]
fn a_delete_is_sent_seven_times_before_its_failure_is_logged() {
    let mut world = one_node();
    world.create_all();
    world.delete_deployment("web");
    let failed = |line: &&LogLine| matches!(line, LogLine::DeleteFailed { .. });
    for attempt in 1..=7 {
        assert_eq!(world.logs.iter().filter(failed).count(), 0, "{attempt}");
        let deletes = world.take_deletes();
        assert_eq!(deletes.len(), 1, "{attempt}");
        let lost = WriteError::Unknown("reset".into());
        world.finish(deletes[0].0, CommandResult::PodDeleted(Err(lost)));
        if attempt < 7 {
            world.advance(secs(8));
        }
    }
    assert_eq!(world.logs.iter().filter(failed).count(), 1);
}

#[test]
fn lost_pods_are_logged_with_pauses_that_double() {
    let mut world = one_node();
    for _ in 0..3 {
        let pods = world.create_all();
        world.hide(&pods[0]);
        world.advance(secs(40));
    }
    let pauses: Vec<f64> = world
        .logs
        .iter()
        .filter_map(|line| match line {
            LogLine::PodLost { pause, .. } => pause.map(|pause| pause.as_secs_f64()),
            _ => None,
        })
        .collect();
    let [first, second, third] = pauses[..] else {
        panic!("{pauses:?}");
    };
    assert!((5.0..=10.0).contains(&first), "{pauses:?}");
    let doubles = |pause: f64, factor: f64| (pause - first * factor).abs() < 0.001;
    assert!(doubles(second, 2.0) && doubles(third, 4.0), "{pauses:?}");
}

#[test]
fn a_prefetch_whose_pods_are_gone_is_forgotten_when_its_rollout_is_over() {
    let mut world = one_node();
    let pods = world.create_all();
    world.pull(&pods);
    world.hide(&pods[0]);
    let known = |world: &World| format!("{:?}", world.controller).contains("uid-web");
    world.advance(secs(599));
    assert!(known(&world), "its rollout is recent");
    world.advance(secs(1));
    assert!(!known(&world));
    assert_eq!(world.controller.next_timeout(), None);
}

#[test]
fn a_read_of_an_account_that_is_no_longer_used_is_not_taken_over() {
    let account =
        |name: &str| json!({"spec": {"template": {"spec": {"serviceAccountName": name}}}});
    let mut world = World::new();
    world.nodes(1);
    world.deploy(merged(web("web", &["a:1"]), &account("old")));
    world.deploy(merged(web("web", &["a:1"]), &account("new")));
    world.answer_secrets(&["of-old"]);
    assert!(world.take_creates().is_empty(), "the new account is read");
    world.answer_secrets(&["of-new"]);
    let (_, pod) = world.take_creates().remove(0);
    let secrets = pod.spec.unwrap().image_pull_secrets.unwrap();
    assert_eq!(secrets[0].name, "of-new");
}
