//! Many Deployments at the same time: what one namespace takes from another, and from itself.

use std::collections::{BTreeSet, VecDeque};

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::absent_nodes::not_ready;
use super::holds::{hold, take_resumes};
use super::world::*;
use crate::controller::command::Command;
use crate::controller::{ControllerConfig, PullLimits};
use crate::event::EventReason;

const NODES: usize = 40;
/// Creates that the API server answers in one step.
const ANSWERS: usize = 20;

/// Updates so many Deployments of one namespace and one of another. Returns after how many steps the nodes have the images of
/// the other, where a pull takes one step.
fn steps_beside(crowd: usize) -> usize {
    let limits = PullLimits {
        per_node: 1,
        per_node_in_all: 3,
        deployments: 100,
        ..PullLimits::default()
    };
    let mut world = World::with(ControllerConfig { limits, ..config() });
    world.is_checked = false;
    world.nodes(NODES);
    for index in 0..crowd {
        world.deploy(web(&format!("web-{index}"), &[&format!("web:{index}")]));
    }
    deploy_other(&mut world);
    let mut done = BTreeSet::new();
    let mut pulling: Vec<Pod> = Vec::new();
    let mut in_flight = VecDeque::new();
    for step in 1..1000 {
        let pulled = std::mem::take(&mut pulling);
        let of_other = pulled.iter().filter(|pod| is_of_other(pod));
        done.extend(of_other.filter_map(|pod| pod.metadata.name.clone()));
        if done.len() == NODES {
            return step;
        }
        world.pull(&pulled);
        in_flight.extend(world.take_creates());
        let answered = in_flight.len().min(ANSWERS);
        for (id, pod) in in_flight.drain(..answered) {
            pulling.push(world.store_pod(id, pod));
        }
    }
    panic!("{} of {NODES} nodes have it", done.len());
}

fn deploy_other(world: &mut World) {
    world.namespace("other", "enabled");
    let namespace = json!({"metadata": {"namespace": "other"}});
    world.deploy(merged(web("web", &["other:1"]), &namespace));
}

fn is_of_other(pod: &Pod) -> bool {
    pod.metadata.namespace.as_deref() == Some("other")
}

#[test]
fn a_deployment_beside_hundreds_of_another_namespace_takes_at_most_twice_its_time() {
    let (alone, beside) = (steps_beside(0), steps_beside(400));
    assert!(beside <= 2 * alone, "{beside} steps, and {alone} alone");
}

/// A namespace of which two Deployments pull at the same time.
fn two_at_once() -> World {
    let limits = PullLimits {
        deployments: 2,
        ..PullLimits::default()
    };
    let mut world = World::with(ControllerConfig { limits, ..config() });
    world.nodes(2);
    world
}

/// The Deployments that pods without an answer are for.
fn asked_for(world: &World) -> BTreeSet<String> {
    let names = world.commands.iter().filter_map(|command| match command {
        Command::CreatePod { pod, .. } => {
            let labels = pod.metadata.labels.as_ref()?;
            labels.get("headstart.dev/deployment").cloned()
        }
        _ => None,
    });
    names.collect()
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn of_one_namespace_so_many_deployments_pull_at_once_and_the_next_when_one_is_done() {
    let mut world = two_at_once();
    for name in ["a", "b", "c", "d"] {
        world.deploy(web(name, &[&format!("{name}:1")]));
    }
    deploy_other(&mut world);
    assert_eq!(asked_for(&world), names(&["a", "b", "web"]));
    let blocked = world.take_events(EventReason::PrefetchBlocked);
    assert_eq!(blocked.len(), 1, "once for the namespace: {blocked:?}");
    assert!(blocked[0].starts_with("2 Deployments"), "{blocked:?}");
    let pods = world.create_all();
    let of_a = |pod: &Pod| pod.metadata.labels.as_ref().unwrap()["headstart.dev/deployment"] == "a";
    let (a, rest): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(of_a);
    world.pull(&a[..1]);
    assert_eq!(asked_for(&world), names(&[]), "a node of it is left");
    world.pull(&a[1..]);
    assert_eq!(asked_for(&world), names(&["c"]));
    world.pull(&rest);
    assert_eq!(asked_for(&world), names(&["c", "d"]));
    world.run_to_end();
    assert_eq!(world.take_events(EventReason::Prefetched).len(), 5);
}

#[test]
fn a_deployment_that_cannot_pull_keeps_no_other_waiting() {
    let mut world = two_at_once();
    world.node_with("n001", &not_ready());
    world.node_with("n002", &not_ready());
    for name in ["a", "b"] {
        world.deploy(web(name, &[&format!("{name}:1")]));
    }
    // No node is planned, so both are done.
    world.deploy(web("c", &["c:1"]));
    world.nodes(2);
    assert_eq!(asked_for(&world), names(&["a", "b", "c"]));
    let waits = world.take_events(EventReason::PrefetchBlocked);
    assert_eq!(waits, Vec::<String>::new());
    world.create_all();

    let mut world = two_at_once();
    for name in ["a", "b", "c"] {
        world.deploy(web(name, &[&format!("{name}:1")]));
    }
    world.create_all();
    // Both nodes have the pods of two, and stop to answer.
    world.node_with("n001", &not_ready());
    assert_eq!(asked_for(&world), names(&[]));
    world.node_with("n002", &not_ready());
    world.nodes(2);
    assert_eq!(asked_for(&world), names(&["c"]));
}

#[test]
fn what_waits_is_planned_as_it_is_when_its_turn_comes() {
    let mut world = two_at_once();
    for name in ["a", "b", "c", "d"] {
        world.deploy(web(name, &[&format!("{name}:1")]));
    }
    world.delete_deployment("c");
    world.deploy(web("d", &["d:2"]));
    // It is for all that are rolled out, and those that wait will plan it.
    world.node("joins");
    let pods = world.create_all();
    world.pull(&pods);
    let creates = world.take_creates();
    let images: BTreeSet<_> = creates
        .iter()
        .map(|(_, pod)| pod.spec.as_ref().unwrap().containers[0].image.clone())
        .collect();
    assert_eq!(images, [Some("d:2".to_owned())].into());
    assert_eq!(creates.len(), 3);
}

#[test]
fn a_held_rollout_waits_for_its_turn_and_ends_in_time() {
    let mut world = two_at_once();
    for name in ["a", "b"] {
        world.deploy(web(name, &[&format!("{name}:1")]));
    }
    let held = hold(&world, "c", &["c:1"]);
    world.deploy(held);
    world.advance(secs(60));
    assert_eq!(world.take_events(EventReason::RolloutResumed).len(), 0);
    assert!(take_resumes(&mut world).is_empty());
    world.advance(secs(300));
    assert!(!take_resumes(&mut world).is_empty(), "its time is up");
}
