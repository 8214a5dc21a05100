//! Random operations, and then a cluster that heals.

use super::holds::hold;
use super::kubelet::*;
use super::world::*;
use crate::controller::command::{Command, CommandResult, ResumeOutcome, WriteError};
use crate::image::ImageSetId;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A generator whose numbers depend on its seed alone (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

/// What the API server and the kubelets have.
#[derive(Default)]
struct Pods {
    /// The pods, with whether each has ended.
    all: Vec<(Pod, bool)>,
    /// The images that are on each node.
    images: BTreeSet<(String, String)>,
    /// The Deployments, by name.
    deployments: BTreeMap<String, Value>,
}

impl Pods {
    /// Puts the images of a pod on its node.
    fn record_images(&mut self, pod: &Pod) {
        let containers = &pod.spec.as_ref().unwrap().containers;
        let images = containers.iter().filter_map(|c| c.image.clone());
        let node = node_of(pod).to_owned();
        self.images
            .extend(images.map(|image| (node.clone(), image)));
    }

    fn deploy(&mut self, world: &mut World, name: &str, object: Value) {
        self.deployments.insert(name.to_owned(), object.clone());
        world.deploy(object);
    }

    /// Ends a hold as the driver does.
    fn resume(
        &mut self,
        world: &mut World,
        name: &str,
        only_if: Option<&ImageSetId>,
    ) -> ResumeOutcome {
        let stored = world.store.get(&key(name));
        let (Some(object), Some((workload, _))) = (self.deployments.get(name), stored) else {
            return ResumeOutcome::NotHeld;
        };
        if workload.state.held.is_none() {
            return ResumeOutcome::NotHeld;
        }
        if only_if.is_some_and(|images| *images != workload.image_set) {
            return ResumeOutcome::ImagesChanged;
        }
        let no_marks = json!({
            "metadata": {"labels": null, "annotations": null}, "spec": {"paused": null},
        });
        let object = merged(object.clone(), &no_marks);
        self.deploy(world, name, object);
        ResumeOutcome::Resumed
    }
}

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

/// Answers one command, with a failure now and then.
fn answer(world: &mut World, pods: &mut Pods, random: &mut Random, heal: bool) {
    if world.commands.is_empty() {
        return;
    }
    let command = world.commands.remove(random.below(world.commands.len()));
    let id = command.id();
    if !heal && random.below(4) == 0 {
        let lost = command.unknown_result("lost");
        world.finish(id, lost);
        return;
    }
    match command {
        Command::CreatePod { pod, .. } => {
            let name = pod.metadata.name.clone();
            if pods
                .all
                .iter()
                .any(|(known, _)| known.metadata.name == name)
            {
                world.finish(id, CommandResult::PodCreated(Ok(None)));
            } else if !heal && random.below(8) == 0 {
                let quota = refused("quota");
                world.finish(id, CommandResult::PodCreated(Err(quota)));
            } else {
                let pod = world.stored(Pod::clone(&pod));
                let uid = pod.metadata.uid.clone();
                // Either the watch or the answer comes first.
                if random.below(2) == 0 {
                    world.show(&pod);
                    world.finish(id, CommandResult::PodCreated(Ok(uid)));
                } else {
                    world.finish(id, CommandResult::PodCreated(Ok(uid)));
                    world.show(&pod);
                }
                pods.all.push((pod, false));
            }
        }
        Command::DeletePod { uid, .. } => {
            let of_uid = |(pod, _): &(Pod, bool)| pod.metadata.uid.as_ref() == Some(&uid);
            if let Some(position) = pods.all.iter().position(of_uid) {
                let (pod, _) = pods.all.remove(position);
                world.hide(&pod);
            }
            world.finish(id, CommandResult::PodDeleted(Ok(())));
        }
        Command::ResumeRollout { key, only_if, .. } => {
            let outcome = pods.resume(world, &key.name, only_if.as_ref());
            world.finish(id, CommandResult::Resumed(Ok(outcome)));
        }
        Command::ListPods { .. } => {
            let nodes = (0..random.below(3)).map(|n| format!("n{n}")).collect();
            world.finish(id, CommandResult::PodsListed(Ok(nodes)));
        }
        Command::ReadPullSecrets { .. } => {
            world.finish(id, CommandResult::PullSecretsRead(Ok(Vec::new())));
        }
    }
}

/// Lets the kubelet of one pod do something.
fn kubelet(world: &mut World, pods: &mut Pods, random: &mut Random, heal: bool) {
    let open: Vec<usize> = (0..pods.all.len()).filter(|n| !pods.all[*n].1).collect();
    if open.is_empty() {
        return;
    }
    let index = open[random.below(open.len())];
    let pod = pods.all[index].0.clone();
    match if heal { 0 } else { random.below(5) } {
        0 | 1 => {
            world.pull(std::slice::from_ref(&pod));
            pods.all[index].1 = true;
            pods.record_images(&pod);
        }
        2 => world.fail_pulls(&[pod], "dial tcp: i/o timeout"),
        3 => {
            world.reject(std::slice::from_ref(&pod));
            pods.all[index].1 = true;
        }
        _ => {
            pods.all.remove(index);
            world.hide(&pod);
        }
    }
}

fn step(world: &mut World, pods: &mut Pods, random: &mut Random) {
    let name = ["web", "api", "job"][random.below(3)];
    match random.below(12) {
        0 => {
            let object = object(world, random, name);
            pods.deploy(world, name, object);
        }
        1 => {
            pods.deployments.remove(name);
            world.delete_deployment(name);
        }
        2 => world.node(&format!("n{}", random.below(6))),
        3 => {
            let name = format!("n{}", random.below(6));
            world.delete_node(&name);
            pods.images.retain(|(node, _)| *node != name);
            // Pod GC deletes the pods of the node.
            let (gone, left) = std::mem::take(&mut pods.all)
                .into_iter()
                .partition(|(pod, _)| node_of(pod) == name);
            pods.all = left;
            let gone: Vec<(Pod, bool)> = gone;
            for (pod, _) in gone {
                world.hide(&pod);
            }
        }
        4 => {
            let mode = ["enabled", "disabled", "hold"][random.below(3)];
            world.namespace("shop", mode);
        }
        5 => world.advance(std::time::Duration::from_millis(100 << random.below(10))),
        6 | 7 => kubelet(world, pods, random, false),
        _ => answer(world, pods, random, false),
    }
}

/// Runs random operations, heals everything, and checks the end.
fn run(seed: u64) {
    let mut random = Random(seed);
    let (mut world, mut pods) = (World::new(), Pods::default());
    world.nodes(1);
    for _ in 0..120 {
        step(&mut world, &mut pods, &mut random);
    }
    world.namespace("shop", "hold");
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
    for node in world.store.nodes() {
        for image in ["web:9", "api:9", "job:9", "common:1"] {
            let has = (node.name().to_owned(), image.to_owned());
            let name = node.name();
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
