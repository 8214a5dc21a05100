//! A fake API server and fake kubelets that act at random.

use super::kubelet::*;
use super::world::*;
use crate::controller::command::{Command, CommandResult, ResumeOutcome};
use crate::image::ImageSetId;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A generator whose numbers depend on its seed alone (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

/// The objects of the API server, and the images on the nodes.
#[derive(Default)]
pub(super) struct Pods {
    /// The pods, with whether each has ended.
    pub(super) all: Vec<(Pod, bool)>,
    /// The images that are on each node.
    pub(super) images: BTreeSet<(String, String)>,
    /// The Deployments, by name.
    pub(super) deployments: BTreeMap<String, Value>,
    /// The fields in which each node differs from a plain one.
    pub(super) nodes: BTreeMap<String, Value>,
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

    pub(super) fn deploy(&mut self, world: &mut World, name: &str, object: Value) {
        self.deployments.insert(name.to_owned(), object.clone());
        world.deploy(object);
    }

    /// Adds or changes a node. Returns its name.
    pub(super) fn change_node(
        &mut self,
        world: &mut World,
        random: &mut Random,
        change: Value,
    ) -> String {
        let name = format!("n{}", random.below(6));
        let node = self
            .nodes
            .entry(name.clone())
            .or_insert(json!({"status": {"allocatable": {"pods": "110"}}}));
        json_patch::merge(node, &change);
        world.node_with(&name, node);
        name
    }

    /// Removes the images of a node that is gone, and its pods, as the pod garbage collector does.
    pub(super) fn lose_node(&mut self, world: &mut World, name: &str) {
        self.images.retain(|(node, _)| node != name);
        let on_node = |(pod, _): &mut (Pod, bool)| node_of(pod) == name;
        let gone: Vec<(Pod, bool)> = self.all.extract_if(.., on_node).collect();
        for (pod, _) in gone {
            world.hide(&pod);
        }
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

/// Answers one command, with a failure now and then.
pub(super) fn answer(world: &mut World, pods: &mut Pods, random: &mut Random, heal: bool) {
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
                // The watch comes before the answer, after it, or only with the pod's next change.
                let order = random.below(3);
                if order == 0 {
                    world.show(&pod);
                }
                world.finish(id, CommandResult::PodCreated(Ok(uid)));
                if order == 1 {
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
        Command::CountPods { .. } => {
            let pods = if heal {
                0
            } else {
                [5, 105, 106, 107, 110][random.below(5)]
            };
            world.finish(id, CommandResult::PodsCounted(Ok(pods)));
        }
    }
}

/// Lets the kubelet of one pod do something.
pub(super) fn kubelet(world: &mut World, pods: &mut Pods, random: &mut Random, heal: bool) {
    let open: Vec<usize> = (0..pods.all.len()).filter(|n| !pods.all[*n].1).collect();
    if open.is_empty() {
        return;
    }
    let index = open[random.below(open.len())];
    let pod = pods.all[index].0.clone();
    match if heal { 0 } else { random.below(6) } {
        0 | 1 => {
            world.pull(std::slice::from_ref(&pod));
            pods.all[index].1 = true;
            pods.record_images(&pod);
        }
        2 => world.fail_pulls(&[pod], "dial tcp: i/o timeout"),
        3 => {
            let message = [NOT_FOUND, UNAUTHORIZED, WRONG_PLATFORM][random.below(3)];
            world.fail_pulls(&[pod], message);
        }
        4 => {
            world.reject(std::slice::from_ref(&pod));
            pods.all[index].1 = true;
        }
        _ => {
            pods.all.remove(index);
            world.hide(&pod);
        }
    }
}
