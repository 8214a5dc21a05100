//! Tests of pulls that several Deployments share.

use super::kubelet::*;
use super::world::*;
use crate::controller::command::{CommandResult, EventRecord};
use crate::controller::{ControllerConfig, PullLimits};
use crate::event::EventReason;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Returns a cluster with so many nodes and Deployments that all want the same image.
fn deployments(count: usize, nodes: usize) -> World {
    let mut world = World::new();
    world.nodes(nodes);
    for index in 0..count {
        world.deploy(web(&format!("web-{index}"), &["a:1"]));
    }
    world
}

fn owner_of(pod: &Pod) -> String {
    pod.metadata.owner_references.as_ref().unwrap()[0]
        .name
        .clone()
}

/// Returns how many Deployments have an event of a reason.
fn count_events(world: &World, reason: EventReason) -> usize {
    let of_reason = |event: &&EventRecord| event.reason == reason;
    world.events.iter().filter(of_reason).count()
}

fn in_namespace(mut object: Value, namespace: &str) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

#[test]
fn twenty_deployments_with_one_image_have_one_pod_a_node() {
    let mut world = deployments(20, 4);
    let pods = world.create_all();
    assert_eq!(nodes_of(&pods), ["n001", "n002", "n003", "n004"]);
    assert_eq!(world.pending(), 80);
    world.pull(&pods);
    assert_eq!((world.create_all().len(), world.pending()), (0, 0));
    assert_eq!(count_events(&world, EventReason::Prefetched), 20);
}

#[test]
fn a_deployment_that_comes_later_finds_what_another_has_pulled() {
    let mut world = deployments(1, 4);
    let pods = world.create_all();
    world.pull(&pods);
    world.deploy(web("late", &["a:1"]));
    assert_eq!((world.create_all().len(), world.pending()), (0, 0));
}

#[test]
fn only_what_no_other_pod_brings_is_pulled() {
    let mut world = deployments(1, 1);
    world.deploy(web("more", &["a:1", "b:1"]));
    let pods = world.create_all();
    let of: Vec<(String, usize)> = pods
        .iter()
        .map(|pod| (owner_of(pod), image_count(pod)))
        .collect();
    assert_eq!(of, [("web-0".into(), 1), ("more".into(), 1)]);
    world.pull(&pods[1..]);
    assert_eq!(world.pending(), 2);
    world.pull(&pods[..1]);
    assert_eq!((world.create_all().len(), world.pending()), (0, 0));
}

#[test]
fn other_credentials_and_tolerations_are_a_pull_of_their_own() {
    let template = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    for other in [
        json!({"imagePullSecrets": [{"name": "mine"}]}),
        json!({"tolerations": [{"operator": "Exists"}]}),
        json!({"runtimeClassName": "vm"}),
    ] {
        let mut world = deployments(1, 1);
        world.deploy(merged(web("other", &["a:1"]), &template(other)));
        assert_eq!(world.create_all().len(), 2);
    }
    let mut world = deployments(1, 1);
    let account = json!({"serviceAccountName": "runner"});
    world.deploy(merged(web("same", &["a:1"]), &template(account)));
    world.answer_secrets(&[]);
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn an_image_that_is_pulled_each_time_is_not_shared() {
    let mut world = World::new();
    world.nodes(1);
    for name in ["one", "two"] {
        let mut object = web(name, &["a:latest"]);
        object["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        world.deploy(object);
    }
    assert_eq!(world.create_all().len(), 2);
}

#[test]
fn a_follower_goes_on_when_the_first_is_deleted() {
    let mut world = deployments(2, 1);
    let pods = world.create_all();
    assert_eq!(owner_of(&pods[0]), "web-0");
    world.delete_deployment("web-0");
    world.hide(&pods[0]);
    let own = world.create_all();
    assert_eq!(own.iter().map(owner_of).collect::<Vec<_>>(), ["web-1"]);
    world.pull(&own);
    assert_eq!(world.pending(), 0);
}

#[test]
fn a_follower_goes_on_when_the_first_changes_its_images_or_terms() {
    for change in [
        json!({"containers": [{"name": "c0", "image": "b:1"}]}),
        json!({"imagePullSecrets": [{"name": "mine"}]}),
    ] {
        let mut world = deployments(2, 1);
        let pods = world.create_all();
        let change = json!({"metadata": {"generation": 2}, "spec": {"template": {"spec": change}}});
        world.deploy(merged(web("web-0", &["a:1"]), &change));
        world.hide(&pods[0]);
        let own = world.create_all();
        let owners: Vec<String> = own.iter().map(owner_of).collect();
        assert!(owners.contains(&"web-1".to_owned()), "{change}: {owners:?}");
    }
}

#[test]
fn a_follower_goes_on_when_the_pod_of_the_first_is_refused() {
    let mut world = deployments(2, 1);
    let creates = world.take_creates();
    assert_eq!(creates.len(), 1);
    let error = refused("no more pods for web-0");
    let result = CommandResult::PodCreated(Err(error));
    world.finish(creates[0].0, result);
    let own = world.create_all();
    assert_eq!(own.iter().map(owner_of).collect::<Vec<_>>(), ["web-1"]);
}

#[test]
fn an_image_that_cannot_be_pulled_fails_for_each_deployment_that_wants_it() {
    let mut world = deployments(3, 1);
    let pods = world.create_all();
    assert_eq!(pods.len(), 1);
    world.fail_pulls(&pods, NOT_FOUND);
    assert_eq!(count_events(&world, EventReason::PrefetchFailed), 3);
    assert_eq!(world.pending(), 0);
    // The kubelet tries again, and succeeds for all.
    world.pull(&pods);
    assert_eq!(count_events(&world, EventReason::Prefetched), 3);
}

#[test]
fn a_pod_that_the_kubelet_rejects_is_tried_again_for_all_by_one_pod_at_a_time() {
    let mut world = deployments(3, 1);
    let pods = world.create_all();
    world.reject(&pods);
    world.advance(secs(40));
    let deletes = world.take_deletes();
    assert_eq!(
        deletes.len(),
        1,
        "the rejected pod has the name of the next"
    );
    world.hide(&pods[0]);
    world.finish(deletes[0].0, CommandResult::PodDeleted(Ok(())));
    let again = world.create_all();
    assert_eq!(again.len(), 1);
    world.pull(&again);
    world.advance(secs(60));
    assert_eq!((world.create_all().len(), world.pending()), (0, 0));
}

#[test]
fn another_namespace_waits_until_the_image_is_there_and_then_has_a_pod_of_its_own() {
    let mut world = deployments(1, 2);
    world.namespace("other", "enabled");
    world.deploy(in_namespace(web("web", &["a:1"]), "other"));
    let first = world.create_all();
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|pod| owner_of(pod) == "web-0"));
    world.pull(&first[..1]);
    let second = world.create_all();
    assert_eq!(nodes_of(&second), nodes_of(&first[..1]));
    world.pull(&first[1..]);
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn a_new_leader_shares_what_the_one_before_has_pulled() {
    let mut world = deployments(3, 2);
    let pods = world.create_all();
    world.pull(&pods[..1]);
    let mut world = world.new_leader(config());
    assert!(world.create_all().len() <= 2);
    world.pull(&pods[1..]);
    world.run_to_end();
}

#[test]
fn a_namespace_whose_pulls_hang_leaves_room_on_the_node_for_others() {
    let limits = PullLimits {
        per_node: 1,
        per_node_in_all: 3,
        ..PullLimits::default()
    };
    let mut world = World::with(ControllerConfig { limits, ..config() });
    world.nodes(1);
    for index in 0..5 {
        world.deploy(web(&format!("hangs-{index}"), &[&format!("slow{index}:1")]));
    }
    assert_eq!(world.create_all().len(), 1);
    for namespace in ["b", "c", "d"] {
        world.namespace(namespace, "enabled");
        let image = format!("{namespace}:1");
        world.deploy(in_namespace(web("web", &[&image]), namespace));
    }
    let others = world.create_all();
    assert_eq!(others.len(), 2, "three in all");
    world.pull(&others[..1]);
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn all_other_namespaces_have_their_pods_at_once_when_the_image_is_there() {
    let mut world = deployments(1, 1);
    for namespace in ["b", "c", "d"] {
        world.namespace(namespace, "enabled");
        world.deploy(in_namespace(web("web", &["a:1"]), namespace));
    }
    let first = world.create_all();
    assert_eq!(first.len(), 1);
    world.pull(&first);
    assert_eq!(world.create_all().len(), 3);
}
