//! Random operations, and then a cluster that heals.

use super::fake_cluster::{Pods, Random, answer, kubelet};
use super::holds::hold;
use super::world::*;
use crate::controller::command::{CommandResult, CreatePermission, Event, WriteError};
use crate::controller::{ControllerConfig, PullLimits};
use crate::plan::{PlacementContext, plan};
use crate::testing::settings;
use serde_json::{Value, json};

fn object(world: &World, random: &mut Random, name: &str) -> Value {
    let image = format!("{name}:{}", random.below(3));
    let status = if random.below(2) == 0 {
        settled(1_800_000_000)
    } else {
        rolling()
    };
    let images = [image.as_str(), "common:1"];
    let object = if random.below(3) == 0 {
        hold(world, name, &images)
    } else {
        web(name, &images)
    };
    merged(object, &json!({ "status": status }))
}

fn step(world: &mut World, pods: &mut Pods, random: &mut Random) {
    let name = ["web", "api", "job"][random.below(3)];
    match random.below(15) {
        0 => {
            let object = object(world, random, name);
            pods.deploy(world, name, object);
        }
        1 => {
            pods.deployments.remove(name);
            world.delete_deployment(name);
        }
        2 => {
            pods.change_node(world, random, json!({"spec": null}));
        }
        3 => {
            let name = format!("n{}", random.below(6));
            pods.nodes.remove(&name);
            world.delete_node(&name);
            pods.lose_node(world, &name);
        }
        4 => {
            let mode = ["enabled", "disabled", "hold"][random.below(3)];
            world.namespace("shop", mode);
        }
        5 => world.advance(std::time::Duration::from_millis(100 << random.below(10))),
        6 | 7 => kubelet(world, pods, random, false),
        8 => {
            let permission = match random.below(3) {
                0 => CreatePermission::Unknown,
                1 => CreatePermission::Refused("policies".into()),
                _ => CreatePermission::Granted,
            };
            world.apply(Event::PermissionChanged(permission));
        }
        9 => {
            let change = [
                json!({"spec": {"unschedulable": true}}),
                json!({"metadata": {"labels": {"kubernetes.io/arch": "arm64"}}}),
            ];
            let change = &change[random.below(2)];
            pods.change_node(world, random, change.clone());
        }
        10 => {
            let uid = format!("uid-{}", random.below(1 << 20));
            let change = json!({"metadata": {"uid": uid, "creationTimestamp": world.now.wall}});
            let name = pods.change_node(world, random, change);
            pods.lose_node(world, &name);
        }
        _ => answer(world, pods, random, false),
    }
}

/// Runs random operations, heals everything, and checks the end.
fn run(seed: u64) {
    let mut random = Random(seed);
    let limits = PullLimits {
        nodes: [0, 1, 3][random.below(3)],
        per_registry: [0, 2][random.below(2)],
        per_node: [0, 1, 2][random.below(3)],
        per_node_in_all: [0, 1, 3][random.below(3)],
        deployments: [0, 1, 2][random.below(3)],
        ended: [0, 4][random.below(2)],
    };
    let mut world = World::with(ControllerConfig {
        limits,
        max_writes: [1, 4, 100][random.below(3)],
        ..config()
    });
    let mut pods = Pods::default();
    world.nodes(1);
    for _ in 0..120 {
        step(&mut world, &mut pods, &mut random);
    }
    world.namespace("shop", "hold");
    world.apply(Event::PermissionChanged(CreatePermission::Granted));
    for name in ["web", "api", "job"] {
        let object = hold(&world, name, &[&format!("{name}:9"), "common:1"]);
        pods.deploy(&mut world, name, object);
    }
    for _ in 0..400 {
        while !world.commands.is_empty() {
            answer(&mut world, &mut pods, &mut random, true);
        }
        while pods.all.iter().any(|(_, done)| !done) {
            kubelet(&mut world, &mut pods, &mut random, true);
        }
        let stats = world.controller.stats(world.now.monotonic);
        if stats.nodes + stats.held == 0 && world.commands.is_empty() {
            break;
        }
        world.advance(secs(5));
    }
    assert_eq!(world.pending(), 0, "seed {seed}");
    let held = world.controller.stats(world.now.monotonic).held;
    assert_eq!(held, 0, "seed {seed}: a hold is left");
    let (workload, _) = world.store.get(&key("web")).unwrap();
    let nodes = world.store.nodes().map(|node| node.info.as_ref());
    let settings = settings();
    let eligible = plan(workload, nodes, &PlacementContext::default(), &settings).nodes;
    for (name, _) in eligible {
        for image in ["web:9", "api:9", "job:9", "common:1"] {
            let has = (name.clone(), image.to_owned());
            assert!(
                pods.images.contains(&has),
                "seed {seed}: {image} is not on {name}"
            );
        }
    }
}

#[test]
fn converges_after_random_operations() {
    for seed in 0..50 {
        run(seed);
    }
}

#[test]
fn an_answer_of_an_earlier_term_changes_nothing() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let old = world.take_creates();
    let mut world = world.new_leader(config());
    let lost = WriteError::Unknown("late".into());
    let unknown = crate::controller::command::CommandId(old[0].0.0 + 1000);
    world.finish(unknown, CommandResult::PodCreated(Err(lost)));
    assert_eq!(world.take_creates().len(), 2);
}
