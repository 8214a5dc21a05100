//! Invariants of creates: what a pod brings, where, and how many there are.

use std::collections::BTreeSet;
use std::rc::Rc;

use headstart_core::api::mode::Mode;
use headstart_core::controller::command::Command;
use headstart_core::pod::node_of;
use headstart_core::pod::status::ImageStatus;
use headstart_core::workload::{DeploymentKey, Workload};
use k8s_openapi::api::core::v1::Pod;

use super::Violation;
use super::slots::check_slots;
use crate::kubelets::pod_images;
use crate::term::{PodCount, Surroundings};
use crate::workloads::{images_of, object_key};
use headstart_core::image::ImageRef;

/// The time within which a watch has caught up, in milliseconds.
const WATCH_LAG: u64 = 120_000;

/// Checks a command before it is sent.
///
/// # Errors
/// Names the invariant that does not hold.
pub(crate) fn on_command<'a>(
    command: &Command,
    running: impl Iterator<Item = &'a Rc<Command>>,
    counts: impl Fn(&str) -> Option<PodCount>,
    around: &mut Surroundings<'_>,
) -> Result<(), Violation> {
    let Command::CreatePod { pod, .. } = command else {
        return Ok(());
    };
    let running: Vec<&Rc<Command>> = running.collect();
    check_shared(pod, running.iter().copied(), around)?;
    check_slots(pod, running.iter().copied(), counts, around)?;
    check_create(pod, running.into_iter(), around)
}

/// Checks that no other Deployment of the namespace is having the same image brought to the node on the same terms (S15).
fn check_shared<'a>(
    pod: &Pod,
    running: impl Iterator<Item = &'a Rc<Command>>,
    around: &Surroundings<'_>,
) -> Result<(), Violation> {
    let terms = |pod: &Pod| {
        let spec = pod.spec.clone().unwrap_or_default();
        (spec.image_pull_secrets, spec.tolerations)
    };
    for command in running {
        let Command::CreatePod { pod: other, .. } = &**command else {
            continue;
        };
        let same_place =
            other.metadata.namespace == pod.metadata.namespace && node_of(other) == node_of(pod);
        if !same_place || owner_of(other) == owner_of(pod) || terms(other) != terms(pod) {
            continue;
        }
        let Some((key, uid)) = owner_of(other) else {
            continue;
        };
        let images = references(other);
        let shared = |image: &str| images.contains(image) && !image.ends_with(":latest");
        let stored = around.store.enabled(&key);
        // A pod on former terms is nobody's leader any more.
        let stored = stored.filter(|stored| stored.uid == uid && has_secrets(other, stored));
        let wanted = stored.iter().flat_map(|stored| &stored.images);
        let mut wanted = wanted.map(|image| &*image.as_written);
        if wanted.any(|image| shared(image) && references(pod).contains(image)) {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let detail = format!("{key} is having the same image brought there");
            return Err(Violation::new("S15 shared pulls", &name, &detail));
        }
    }
    Ok(())
}

/// Returns whether a pod names the pull secrets of a Deployment.
fn has_secrets(pod: &Pod, workload: &Workload) -> bool {
    let secrets = pod
        .spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let secrets = secrets.map(|secret| &secret.name);
    workload.terms.image_pull_secrets.iter().eq(secrets)
}

/// Returns the Deployment that owns a pod, and its UID.
fn owner_of(pod: &Pod) -> Option<(DeploymentKey, String)> {
    let owner = pod.metadata.owner_references.iter().flatten().next()?;
    let key = DeploymentKey {
        namespace: pod.metadata.namespace.clone()?,
        name: owner.name.clone(),
    };
    Some((key, owner.uid.clone()))
}

/// Checks a create (S3, S4, S5).
pub(super) fn check_create<'a>(
    pod: &Pod,
    running: impl Iterator<Item = &'a Rc<Command>>,
    around: &Surroundings<'_>,
) -> Result<(), Violation> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let violated = |invariant, detail: &str| Err(Violation::new(invariant, &name, detail));
    let Some((key, uid)) = owner_of(pod) else {
        return violated("S3 images", "the pod has no owner");
    };
    let Some(workload) = around.store.enabled(&key) else {
        return violated(
            "S3 images",
            "the Deployment is not enabled in the sender's store",
        );
    };
    if workload.uid != uid {
        return violated(
            "S3 images",
            "the owner is not the Deployment in the sender's store",
        );
    }
    let images = references(pod);
    let wanted: BTreeSet<String> = workload
        .images
        .iter()
        .map(|image| image.as_written.to_string())
        .collect();
    if !images.is_subset(&wanted) || images.is_empty() {
        let detail = format!("it brings {images:?}, and the Deployment wants {wanted:?}");
        return violated("S3 images", &detail);
    }
    if !was_stored(&key, workload, around) {
        return violated(
            "S3 images",
            "no such version of the Deployment was ever stored",
        );
    }
    if !has_secrets(pod, workload) {
        return violated("S3 images", "it names other pull secrets");
    }
    let Some(node) = node_of(pod).and_then(|node| around.store.node(node)) else {
        return violated("S3 images", "the node is not in the sender's store");
    };
    if let Some(why) = workload.constraints.filter(&node.info) {
        let detail = format!("the Deployment's pods cannot run on the node: {why}");
        return violated("S3 images", &detail);
    }
    check_ready(&name, workload, around)?;
    check_single(&name, node.name(), workload, &images, around)?;
    let namespace = &workload.key.namespace;
    check_limits(&name, (node.name(), namespace), running, around)
}

/// Returns the images that a pod brings.
fn references(pod: &Pod) -> BTreeSet<String> {
    pod.spec.iter().flat_map(pod_images).collect()
}

/// Returns whether a Deployment was stored with the images that the sender's store has.
fn was_stored(key: &DeploymentKey, workload: &Workload, around: &Surroundings<'_>) -> bool {
    let object = object_key(key);
    let log = &around.cluster.api.log[crate::api_server::Kind::Deployment.index()];
    let mut versions = log.iter().rev().filter(|entry| entry.key == object);
    let wanted = |image: &str| {
        let read: Option<ImageRef> = image.parse().ok();
        workload
            .images
            .iter()
            .any(|image| Some(&image.reference) == read.as_ref())
    };
    versions.any(|entry| {
        entry.object.uid() == workload.uid
            && images_of(&entry.object.value)
                .iter()
                .all(|image| wanted(image))
    })
}

/// Checks that new pods were ready before, where the Deployment asks for that (S16). A prefetch that began in mode hold goes on.
fn check_ready(
    name: &str,
    workload: &Workload,
    around: &Surroundings<'_>,
) -> Result<(), Violation> {
    let key = &workload.key;
    let is_enabled = around
        .store
        .get(key)
        .is_some_and(|(_, mode)| mode == Mode::Enabled);
    if !is_enabled || workload.annotations.after_ready.is_none() {
        return Ok(());
    }
    let object = object_key(key);
    let log = &around.cluster.api.log[crate::api_server::Kind::Deployment.index()];
    let versions = log.iter().rev().filter(|entry| entry.key == object);
    let versions = versions.map(|entry| {
        (
            entry.at,
            Workload::from_deployment(entry.object.deployment()),
        )
    });
    let same = |version: &Option<Workload>| {
        version.as_ref().is_some_and(|version| {
            version.uid == workload.uid && version.image_set == workload.image_set
        })
    };
    // The sender's store may be older than the log.
    let versions = versions.skip_while(|(_, version)| !same(version));
    let versions = versions.take_while(|(_, version)| same(version));
    let mut began = 0;
    for (at, version) in versions.filter_map(|(at, version)| Some((at, version?))) {
        if !version.state.rollout.awaits_ready || version.state.held.is_some() {
            return Ok(());
        }
        began = at;
    }
    let mode_changed = around.cluster.mode_changed.get(&key.namespace);
    // The sender may have seen a change of the mode long after it was stored.
    if mode_changed.is_some_and(|changed| *changed + WATCH_LAG >= began) {
        return Ok(());
    }
    let detail = "no new pod of the rollout was ready before";
    Err(Violation::new("S16 after ready", name, detail))
}

/// Checks that no other pod of the Deployment brings the same image to the node (S4).
fn check_single(
    name: &str,
    node: &str,
    workload: &Workload,
    images: &BTreeSet<String>,
    around: &Surroundings<'_>,
) -> Result<(), Violation> {
    let references: Vec<ImageRef> = images
        .iter()
        .filter_map(|image| image.parse().ok())
        .collect();
    let joined = around.store.node(node).and_then(|node| node.created);
    for pod in around.store.pods_on_node(&workload.key, node) {
        let unfinished = pod.outcome.ended.is_none() && !pod.deleting;
        let of_this = pod.owner.as_deref() == Some(workload.uid.as_str()) && pod.created >= joined;
        // A pod whose pull has failed may have other credentials.
        let shares = pod.images.iter().zip(&pod.outcome.images);
        let mut shares = shares.filter(|(_, outcome)| **outcome == ImageStatus::Pending);
        let shares = shares.any(|(image, _)| {
            image
                .as_ref()
                .is_some_and(|image| references.contains(image))
        });
        if unfinished && of_this && shares && pod.revision == workload.image_set {
            let detail = format!("{} on {node} brings the same image", pod.name);
            return Err(Violation::new("S4 one pod", name, &detail));
        }
    }
    Ok(())
}

/// Checks the limits (S5): prefetch pods that are not finished, in the sender's store and on their way.
fn check_limits<'a>(
    name: &str,
    (node, namespace): (&str, &str),
    running: impl Iterator<Item = &'a Rc<Command>>,
    around: &Surroundings<'_>,
) -> Result<(), Violation> {
    let limits = around.cluster.options.config.limits;
    let creating = |command: &Rc<Command>| match &**command {
        Command::CreatePod { pod, .. } => {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            Some((node_of(pod)?.to_owned(), namespace))
        }
        _ => None,
    };
    let creating: Vec<(String, String)> = running.filter_map(creating).collect();
    let writes = creating.len() + 1;
    let most = around.cluster.options.config.max_writes;
    if writes > most {
        let detail = format!("{writes} creates are in flight, and {most} may be");
        return Err(Violation::new("S5 limits", name, &detail));
    }
    let here = creating.iter().filter(|(other, _)| other == node);
    let of_namespace = here.clone().filter(|(_, other)| other == namespace);
    for (count, most) in [
        (of_namespace.count() + 1, limits.per_node),
        (here.count() + 1, limits.per_node_in_all),
    ] {
        if most > 0 && count > most {
            let detail = format!("{count} creates for {node} are in flight, the limit is {most}");
            return Err(Violation::new("S5 limits", name, &detail));
        }
    }
    let mut nodes: BTreeSet<&str> = creating.iter().map(|(node, _)| node.as_str()).collect();
    nodes.insert(node);
    if limits.nodes > 0 && nodes.len() > limits.nodes {
        let detail = format!(
            "creates for {} nodes, the limit is {}",
            nodes.len(),
            limits.nodes
        );
        return Err(Violation::new("S5 limits", name, &detail));
    }
    Ok(())
}
