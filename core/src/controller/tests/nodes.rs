//! Tests of nodes that join, leave or change, and of limits on nodes.

use super::holds::{hold, take_resumes};
use super::kubelet::*;
use super::world::*;
use crate::controller::ControllerConfig;
use crate::controller::command::CommandResult;
use crate::event::EventReason;
use crate::pod::PodSettings;
use crate::scheduling::filter_options::FilterOptions;
use crate::testing::settings;
use serde_json::{Value, json};

fn joined(at: &World) -> Value {
    json!({"metadata": {"creationTimestamp": at.now.wall}})
}

/// A world in which a Deployment was rolled out before this term.
fn rolled_out_before() -> World {
    let mut world = World::new();
    world.nodes(2);
    let old = json!({"status": settled(1_700_000_000)});
    world.deploy(merged(web("web", &["a:1"]), &old));
    assert!(world.take_creates().is_empty());
    world
}

#[test]
fn a_node_that_joins_during_a_rollout_gets_its_images() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    world.create_all();
    world.node("new");
    assert_eq!(nodes_of(&world.create_all()), ["new"]);
}

#[test]
fn a_node_that_joins_gets_the_images_of_earlier_rollouts() {
    let mut world = rolled_out_before();
    let young = joined(&world);
    world.node_with("new", &young);
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["new"]);
    world.pull(&pods);
    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    world.node_with("new", &merged(young.clone(), &not_ready));
    world.node_with("new", &young);
    assert!(
        world.take_creates().is_empty(),
        "a node that flaps has its images"
    );
}

#[test]
fn only_so_many_deployments_get_their_images_onto_a_node_that_joins() {
    let mut world = World::with(ControllerConfig {
        new_node_deployments: 2,
        ..config()
    });
    for (name, replicas) in [("one", 1), ("two", 2), ("three", 3)] {
        let old = json!({"spec": {"replicas": replicas}, "status": settled(1_700_000_000)});
        world.deploy(merged(web(name, &[&format!("{name}:1")]), &old));
    }
    let young = joined(&world);
    world.node_with("new", &young);
    let pods = world.create_all();
    let mut of: Vec<_> = pods
        .iter()
        .filter_map(|pod| {
            pod.metadata
                .labels
                .as_ref()?
                .get("headstart.dev/deployment")
        })
        .collect();
    of.sort_unstable();
    assert_eq!(of, ["three", "two"], "those with most replicas");
}

#[test]
fn a_node_that_is_gone_is_not_waited_for() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods[..1]);
    world.delete_node("n002");
    assert_eq!(world.pending(), 0);
}

#[test]
fn another_node_by_the_same_name_has_nothing() {
    let mut world = World::new();
    world.nodes(1);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    world.advance(secs(10));
    let created = world.now.wall;
    let again = json!({"metadata": {"uid": "another", "creationTimestamp": created}});
    world.node_with("n001", &again);
    assert_eq!(world.pending(), 1);
    let deletes = world.take_deletes();
    assert_eq!(deletes.len(), 1, "its name is that of the pod before");
}

#[test]
fn a_node_that_is_cordoned_before_its_turn_gets_no_pod() {
    let mut world = World::with(ControllerConfig {
        max_writes: 1,
        ..config()
    });
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    world.node_with("n002", &json!({"spec": {"unschedulable": true}}));
    let first = world.create_all();
    assert_eq!(nodes_of(&first), ["n001"]);
    assert!(world.take_creates().is_empty());
}

#[test]
fn a_limit_on_nodes_prefers_those_where_the_deployment_runs() {
    let mut world = World::new();
    world.nodes(5);
    let two = json!({"metadata": {"annotations": {"headstart.dev/max-nodes": "2"}}});
    world.deploy(merged(web("web", &["a:1"]), &two));
    assert!(world.take_creates().is_empty(), "its pods are listed first");
    world.answer_list(["n003", "n005"]);
    assert_eq!(nodes_of(&world.create_all()), ["n003", "n005"]);
}

#[test]
fn a_plan_goes_on_without_a_list_that_fails() {
    let mut world = World::new();
    world.nodes(5);
    let two = json!({"metadata": {"annotations": {"headstart.dev/max-nodes": "2"}}});
    world.deploy(merged(web("web", &["a:1"]), &two));
    world.fail_list();
    assert_eq!(world.create_all().len(), 2);
}

#[test]
fn images_that_change_while_pods_are_listed_are_planned_anew() {
    let mut world = World::new();
    world.nodes(3);
    let one = json!({"metadata": {"annotations": {"headstart.dev/max-nodes": "1"}}});
    world.deploy(merged(web("web", &["a:1"]), &one));
    world.deploy(merged(web("web", &["a:2"]), &one));
    world.answer_list(["n001"]);
    assert!(world.take_creates().is_empty(), "the list was for a:1");
    world.answer_list(["n002"]);
    assert_eq!(nodes_of(&world.create_all()), ["n002"]);
}

#[test]
fn a_prefetch_is_finished_when_its_last_node_is_cordoned_before_its_turn() {
    let mut world = World::with(ControllerConfig {
        max_writes: 1,
        ..config()
    });
    world.nodes(2);
    let object = hold(&world, "web", &["a:1"]);
    world.deploy(object);
    let (id, pod) = world.take_creates().remove(0);
    let pod = world.stored(pod);
    world.show(&pod);
    world.pull(std::slice::from_ref(&pod));
    world.node_with("n002", &json!({"spec": {"unschedulable": true}}));
    let uid = pod.metadata.uid.clone();
    world.finish(id, CommandResult::PodCreated(Ok(uid)));
    assert_eq!(world.pending(), 0);
    assert_eq!(take_resumes(&mut world).len(), 1);
    assert_eq!(world.take_events(EventReason::Prefetched).len(), 1);
}

#[test]
fn a_node_that_becomes_ready_gets_its_pod_and_no_other_when_it_flaps() {
    let mut world = World::new();
    world.nodes(2);
    let not_ready = json!({
        "spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]},
        "status": {"conditions": [{"type": "Ready", "status": "False"}]},
    });
    world.node_with("flaps", &not_ready);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["n001", "n002"]);
    world.pull(&pods);
    world.node("flaps");
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["flaps"]);
    world.pull(&pods);
    for _ in 0..20 {
        world.node_with("flaps", &not_ready);
        world.advance(secs(3));
        world.node("flaps");
    }
    assert!(world.commands.is_empty(), "{:?}", world.commands);
}

#[test]
fn a_node_that_is_made_again_during_a_rollout_gets_its_pod() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.delete_node("n002");
    for pod in &pods {
        if node_of(pod) == "n002" {
            world.hide(pod);
        } else {
            world.pull(std::slice::from_ref(pod));
        }
    }
    assert_eq!(world.pending(), 0, "the others are done");
    world.advance(secs(1));
    let again = json!({"metadata": {"uid": "another", "creationTimestamp": world.now.wall}});
    world.node_with("n002", &again);
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["n002"]);
    world.pull(&pods);
    assert_eq!((world.pending(), world.take_creates().len()), (0, 0));
}

/// Settings with the taint of a network plugin that is not ready.
fn with_startup_taint() -> ControllerConfig {
    let pods = PodSettings {
        filter: FilterOptions {
            startup_taints: "node.cilium.io/agent-not-ready".parse().unwrap(),
            ..FilterOptions::default()
        },
        ..settings()
    };
    ControllerConfig {
        pods: pods.into(),
        ..config()
    }
}

fn starting() -> Value {
    json!({"spec": {"taints": [{"key": "node.cilium.io/agent-not-ready", "effect": "NoExecute"}]}})
}

#[test]
fn a_node_with_a_startup_taint_gets_images_before_the_taint_is_gone() {
    let mut world = World::with(with_startup_taint());
    let old = json!({"status": settled(1_700_000_000)});
    world.deploy(merged(web("web", &["a:1"]), &old));
    let young = joined(&world);
    world.node_with("new", &merged(young, &starting()));
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["new"]);
    let tolerations = pods[0].spec.as_ref().unwrap().tolerations.as_ref().unwrap();
    assert_eq!(
        tolerations[0].key.as_deref(),
        Some("node.cilium.io/agent-not-ready")
    );
}

#[test]
fn a_hold_does_not_wait_for_a_node_with_a_startup_taint() {
    let mut world = World::with(with_startup_taint());
    world.nodes(1);
    world.node_with("starts", &starting());
    let held = hold(&world, "web", &["a:1"]);
    world.deploy(held);
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["n001"]);
    world.pull(&pods);
    assert_eq!(take_resumes(&mut world).len(), 1);
    world.deploy(web("web", &["a:1"]));
    let changed = json!({"metadata": {"labels": {"a": "b"}}});
    world.node_with("starts", &merged(starting(), &changed));
    assert_eq!(
        nodes_of(&world.create_all()),
        ["starts"],
        "the hold is over"
    );
}

fn gpus(count: u8) -> Value {
    json!({"status": {"allocatable": {"nvidia.com/gpu": count.to_string()}}})
}

/// A Deployment each of whose pods wants one GPU.
fn on_gpu(name: &str) -> Value {
    let mut object = web(name, &["a:1"]);
    object["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"limits": {"nvidia.com/gpu": 1}});
    object
}

#[test]
fn a_node_that_can_never_fit_a_pod_is_not_waited_for() {
    let mut world = World::new();
    world.node_with("cpu", &gpus(0));
    world.node_with("gpu", &gpus(1));
    let held = hold(&world, "web", &["a:1"]);
    world.deploy(merged(held, &json!({"spec": on_gpu("web")["spec"]})));
    let note = world.take_events(EventReason::PrefetchStarted).remove(0);
    assert!(
        note.contains("Skipped 1 node (cpu: a pod wants nvidia.com/gpu: 1, the node has none)"),
        "{note}"
    );
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["gpu"]);
    world.pull(&pods);
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_node_is_planned_when_its_resources_appear() {
    let mut world = World::new();
    world.node_with("gpu", &gpus(0));
    world.deploy(on_gpu("web"));
    assert!(world.take_creates().is_empty());
    world.node_with("gpu", &gpus(1));
    assert_eq!(nodes_of(&world.create_all()), ["gpu"]);
}

#[test]
fn a_device_plugin_that_starts_long_after_its_node_joined_brings_the_images() {
    let mut world = World::new();
    world.node_with("gpu", &gpus(0));
    let old = json!({"status": settled(1_700_000_000)});
    world.deploy(merged(on_gpu("web"), &old));
    world.deploy(merged(web("plain", &["a:1"]), &old));
    world = world.new_leader(config());
    world.node_with("gpu", &gpus(8));
    let pods = world.create_all();
    world.pull(&pods);
    assert_eq!(
        pods.len(),
        1,
        "the Deployments that could not run there before"
    );
    world.run_to_end();
    for count in [0, 8, 0, 8] {
        world.advance(secs(700));
        world.node_with("gpu", &gpus(count));
    }
    assert!(
        world.take_creates().is_empty(),
        "a plugin that restarts brings no pod"
    );
}
