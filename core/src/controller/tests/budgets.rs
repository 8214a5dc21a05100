//! How many pods are not done at once, by a count of the pods themselves.

use std::collections::BTreeMap;

use super::world::*;
use crate::controller::{ControllerConfig, PullLimits};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Nodes that each Deployment has for itself.
const NODES: usize = 20;
/// Not a registry: all of them.
const ALL: &str = "";

/// Begins the rollouts of these Deployments, each on nodes of its own.
fn limited(limits: PullLimits, deployments: &[(&str, &str)]) -> World {
    let mut world = World::with(ControllerConfig { limits, ..config() });
    for (name, image) in deployments {
        for index in 0..NODES {
            let pool = json!({"metadata": {"labels": {"pool": name}}});
            world.node_with(&format!("{name}-{index}"), &pool);
        }
        world.deploy(merged(web(name, &[image]), &in_pool(name)));
    }
    world
}

fn in_pool(pool: &str) -> Value {
    json!({"spec": {"template": {"spec": {"nodeSelector": {"pool": pool}}}}})
}

/// Lets one pod after another pull, until all nodes have their images. Returns the most pods that were not done at once, by
/// registry.
fn most_at_once(world: &mut World) -> BTreeMap<String, usize> {
    let mut most = BTreeMap::new();
    let mut pulling: Vec<Pod> = Vec::new();
    loop {
        loop {
            let pods = world.create_all();
            if pods.is_empty() {
                break;
            }
            pulling.extend(pods);
        }
        let mut now = BTreeMap::from([(ALL.to_owned(), pulling.len())]);
        for pod in &pulling {
            *now.entry(registry_of(pod)).or_default() += 1;
        }
        for (registry, count) in now {
            let highest = most.entry(registry).or_default();
            *highest = count.max(*highest);
        }
        if pulling.is_empty() {
            assert_eq!(world.pending(), 0);
            return most;
        }
        let first = pulling.remove(0);
        world.pull(&[first]);
    }
}

fn registry_of(pod: &Pod) -> String {
    let containers = &pod.spec.as_ref().unwrap().containers;
    let image = containers[0].image.as_deref().unwrap();
    image.split('/').next().unwrap().to_owned()
}

#[test]
fn the_limit_on_nodes_is_kept_and_used_by_all_deployments_together() {
    let limits = PullLimits {
        nodes: 7,
        ..PullLimits::default()
    };
    let mut world = limited(limits, &[("web", "a:1"), ("api", "a:1")]);
    assert_eq!(most_at_once(&mut world)[ALL], 7);
}

#[test]
fn the_limit_on_a_registry_is_kept_and_used_and_one_does_not_wait_for_the_other() {
    let limits = PullLimits {
        per_registry: 4,
        ..PullLimits::default()
    };
    let deployments = [
        ("web", "one.example/acme/web:1"),
        ("api", "one.example/acme/api:1"),
        ("jobs", "two.example/acme/jobs:1"),
    ];
    let most = most_at_once(&mut limited(limits, &deployments));
    assert_eq!((most["one.example"], most["two.example"]), (4, 4));
    assert_eq!(most[ALL], 8);
}

/// Begins a pull of two images on the only node, which has one place for all, and a rollout in another namespace.
fn one_place() -> (World, Pod) {
    let limits = PullLimits {
        per_node: 1,
        per_node_in_all: 1,
        ..PullLimits::default()
    };
    let mut world = World::with(ControllerConfig { limits, ..config() });
    world.node("n1");
    world.deploy(web("hangs", &["a:1", "b:1"]));
    let hanging = world.create_all().remove(0);
    world.namespace("other", "enabled");
    let mut other = web("web", &["c:1"]);
    other["metadata"]["namespace"] = json!("other");
    world.deploy(other);
    (world, hanging)
}

#[test]
fn a_pull_without_progress_for_a_minute_leaves_its_place_to_other_namespaces() {
    let (mut world, hanging) = one_place();
    world.deploy(web("second", &["d:1"]));
    world.advance(secs(59));
    assert!(world.take_creates().is_empty());
    world.advance(secs(1));
    let pods = world.create_all();
    assert_eq!(pods.len(), 1, "its own namespace has its place");
    assert_eq!(pods[0].metadata.namespace.as_deref(), Some("other"));
    world.pull(&[hanging]);
    world.pull(&pods);
    assert_eq!(world.create_all().len(), 1);
}

#[test]
fn a_change_of_the_status_is_progress() {
    let (mut world, hanging) = one_place();
    world.advance(secs(59));
    let status = json!({"phase": "Pending", "containerStatuses": [
        {"name": "image-0", "image": "", "imageID": "sha256:1", "ready": false, "restartCount": 0,
         "state": {"terminated": {"exitCode": 0, "finishedAt": world.now.wall}}},
        {"name": "image-1", "image": "", "imageID": "", "ready": false, "restartCount": 0,
         "state": {"waiting": {"reason": "ContainerCreating"}}},
    ]});
    let mut half = hanging;
    half.status = serde_json::from_value(status).unwrap();
    world.show(&half);
    world.advance(secs(59));
    assert!(world.take_creates().is_empty());
    world.advance(secs(1));
    assert_eq!(world.take_creates().len(), 1);
}

#[test]
fn finished_pods_beyond_the_limit_go_in_the_order_in_which_they_ended() {
    let limits = PullLimits {
        ended: 10,
        ..PullLimits::default()
    };
    let mut world = World::with(ControllerConfig { limits, ..config() });
    world.nodes(12);
    world.deploy(web("web", &["a:1"]));
    let mut first = None;
    for _ in 0..10 {
        let pods = world.create_all();
        if let Some(pod) = pods.first() {
            first.get_or_insert(pod.metadata.uid.clone());
        }
        world.pull(&pods);
        world.advance(secs(20));
    }
    let deletes: Vec<String> = world
        .take_deletes()
        .into_iter()
        .map(|(_, uid)| uid)
        .collect();
    assert_eq!(deletes.len(), 2);
    assert!(deletes.contains(&first.flatten().unwrap()), "{deletes:?}");
    assert_eq!(world.pending(), 0, "their images are there");
}
