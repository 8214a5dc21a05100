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
