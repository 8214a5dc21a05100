//! What must have become true some time after all faults have ended.

use headstart_core::api::annotations::MAX_NODES;
use headstart_core::api::well_known::{HELD_LABEL, MANAGED_BY_LABEL};
use headstart_core::controller::command::{Command, CreatePermission, Event};
use headstart_core::controller::{Controller, Output};
use headstart_core::pod::node_of;
use headstart_core::time::Now;
use headstart_core::workload::Workload;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::holds::is_paused_by_nobody;
use super::{Monitor, Violation};
use crate::api_server::{Kind, Object, ObjectKey, is_finished};
use crate::cluster::Cluster;
use crate::kubelets::pod_images;
use crate::nodes::planned_nodes;
use crate::options::Fault;
use crate::replica::Replica;
use crate::term::instant;
use crate::workloads::{core_key, images_of};

/// Checks that everything has come to its end (L1 to L4).
///
/// # Errors
/// Names what has not.
pub(crate) fn check(
    replicas: &[Replica],
    monitor: &Monitor,
    cluster: &Cluster,
) -> Result<(), Violation> {
    let now = cluster.now();
    let leader = replicas.iter().find(|replica| replica.is_active(now));
    let Some(leader) = leader else {
        let detail = "no replica leads";
        return Err(Violation::new("L0 leader", "lease", detail));
    };
    check_images(leader, monitor, cluster)?;
    check_pauses(monitor, cluster)?;
    check_pods(leader, cluster)?;
    check_restart(leader, monitor, cluster)
}

/// L1: all planned nodes have all images, or a failure was reported.
fn check_images(leader: &Replica, monitor: &Monitor, cluster: &Cluster) -> Result<(), Violation> {
    for (object_key, deployment) in cluster.api.list(Kind::Deployment) {
        let key = core_key(object_key);
        let Some(stored) = Workload::from_deployment(deployment.deployment()) else {
            continue;
        };
        let Some(known) = leader.store.enabled(&key) else {
            continue;
        };
        if known.uid != stored.uid || known.image_set != stored.image_set {
            let detail = "the leader's store has another version";
            return Err(Violation::new("L1 images", &key.to_string(), detail));
        }
        let versions = versions(object_key, deployment, cluster);
        if !was_prefetched(&key.namespace, &versions, leader, cluster) {
            continue;
        }
        // By a clock that is wrong, or seen late, a rollout may have been over for longer than pods are kept.
        if is_late(cluster) && monitor.rolled_out_before.contains(&key) {
            continue;
        }
        let failing = stored.images.iter().any(|image| {
            let answer = cluster.registry.answer(&image.as_written);
            answer.is_permanent()
        });
        let excused = failing
            || stored.state.rollout.awaits_ready
            || versions.iter().any(|version| version.limited)
            || monitor.reported.contains(&(key.clone(), "PrefetchFailed"))
            || monitor.reported.contains(&(key.clone(), "PrefetchBlocked"));
        for node in planned_nodes(&cluster.api, &stored, &cluster.options.config.pods) {
            if joined_after(node, &versions, cluster) || had_troubles(node, &versions, cluster) {
                continue;
            }
            let uid = node.uid();
            let missing = stored
                .images
                .iter()
                .find(|image| !cluster.images.had(uid, &image.as_written, 0));
            if let Some(image) = missing.filter(|_| !excused) {
                let (image, name) = (&image.as_written, node.metadata("name"));
                let detail = format!("{image} is not on {name}, and no failure was reported");
                return Err(Violation::new("L1 images", &key.to_string(), &detail));
            }
        }
    }
    Ok(())
}

/// A version of a Deployment.
struct Version {
    /// The time at which it was stored.
    at: u64,
    /// It has no replicas.
    idle: bool,
    /// It limits the number of nodes. They are chosen when its prefetch begins.
    limited: bool,
}

/// Returns the versions of a Deployment that have its images of now, the latest first.
fn versions(key: &ObjectKey, deployment: &Object, cluster: &Cluster) -> Vec<Version> {
    let log = &cluster.api.log[Kind::Deployment.index()];
    let images = images_of(&deployment.value);
    let versions = log.iter().rev().filter(|entry| entry.key == *key);
    let same = versions.take_while(|entry| {
        entry.object.uid() == deployment.uid() && images_of(&entry.object.value) == images
    });
    let same = same.map(|entry| {
        let object = &entry.object.value;
        Version {
            at: entry.at,
            idle: object["spec"]["replicas"] == 0,
            limited: object["metadata"]["annotations"][MAX_NODES].is_string(),
        }
    });
    same.collect()
}

/// Returns whether a node joined after the images of a Deployment were changed, and need not get them: each node gets those of some
/// Deployments that have replicas then.
fn joined_after(node: &Object, versions: &[Version], cluster: &Cluster) -> bool {
    let joined: Option<Timestamp> = node.metadata("creationTimestamp").parse().ok();
    let joined = joined.map_or(0, Cluster::since_epoch);
    let joined = u64::try_from(joined).unwrap_or(0);
    if versions.last().is_none_or(|changed| joined <= changed.at) {
        return false;
    }
    let idle = versions.iter().any(|version| version.idle);
    let all = cluster.options.config.new_node_deployments >= cluster.options.deployments;
    idle || !all
}

/// Returns whether a node was cordoned or tainted after the images of a Deployment were changed. A node that comes back later than pods
/// are kept does not get the images of rollouts that are over.
fn had_troubles(node: &Object, versions: &[Version], cluster: &Cluster) -> bool {
    let changed = versions.last().map_or(0, |changed| changed.at);
    let log = cluster.api.log[Kind::Node.index()].iter().rev();
    let mut states = log.filter(|entry| entry.object.uid() == node.uid());
    let mut earlier = false;
    // The states since then, and the one before.
    let since = states.by_ref().take_while(|entry| {
        let within = !earlier;
        earlier = entry.at < changed;
        within
    });
    let mut since = since.map(|entry| &entry.object.value["spec"]);
    since.any(|spec| spec["unschedulable"] == true || spec["taints"].is_array())
}

/// Returns whether a leader may have seen a rollout later than pods are kept.
fn is_late(cluster: &Cluster) -> bool {
    let faults = [
        Fault::Clock,
        Fault::WatchLag,
        Fault::WatchCut,
        Fault::ApiServerDown,
        Fault::Stop,
    ];
    faults.into_iter().any(|fault| cluster.options.has(fault))
}

/// Returns whether headstart has to care for a rollout: not if its images were changed long before the leader came, or before prefetch
/// was enabled.
fn was_prefetched(
    namespace: &str,
    versions: &[Version],
    leader: &Replica,
    cluster: &Cluster,
) -> bool {
    let began = leader.term.as_ref().map_or(0, |term| term.began);
    let enabled = cluster.mode_changed.get(namespace).copied().unwrap_or(0);
    let retain = cluster.options.config.retain.as_millis();
    let retain = u64::try_from(retain).unwrap_or(0);
    let changed = versions.last().map_or(0, |changed| changed.at);
    changed + retain > began.max(enabled) + 60_000
}

/// L2: nothing is held, and nothing is paused but by its user.
fn check_pauses(monitor: &Monitor, cluster: &Cluster) -> Result<(), Violation> {
    for (key, object) in cluster.api.list(Kind::Deployment) {
        let name = core_key(key).to_string();
        if object.label(HELD_LABEL).is_some() {
            return Err(Violation::new(
                "L2 holds",
                &name,
                "the mark of a hold is left",
            ));
        }
        if is_paused_by_nobody(object, &monitor.pauses) {
            return Err(Violation::new(
                "L2 holds",
                &name,
                "it is paused, and not by its user",
            ));
        }
    }
    Ok(())
}

/// L3: no prefetch pod of a Deployment that is gone or disabled, and none that is finished for long.
fn check_pods(leader: &Replica, cluster: &Cluster) -> Result<(), Violation> {
    for (key, pod) in cluster.api.list(Kind::Pod) {
        let ours = pod.label(MANAGED_BY_LABEL).is_some()
            && headstart_core::pod::is_prefetch_pod(pod.pod());
        if !ours {
            continue;
        }
        let violated = |detail: &str| Err(Violation::new("L3 pods", &key.name, detail));
        let owner = pod.owner_uid();
        let deployments = cluster.api.list_in(Kind::Deployment, &key.namespace);
        let mut owners = deployments.filter(|(_, object)| Some(object.uid()) == owner);
        let Some((owner, _)) = owners.next() else {
            return violated("its Deployment is gone");
        };
        if leader.store.enabled(&core_key(owner)).is_none() {
            return violated("prefetch is disabled for its Deployment");
        }
        let node = node_of(pod.pod()).unwrap_or_default();
        if !is_finished(&pod.value) && cluster.node_uid(node).is_none() {
            return violated("its node is gone");
        }
    }
    Ok(())
}

/// Returns whether another Deployment of the namespace has wanted an image of a pod. Its pod may have brought the image, and is
/// the other's proof only as long as it is there.
fn was_shared(pod: &Pod, cluster: &Cluster) -> bool {
    let owner = pod.metadata.owner_references.iter().flatten().next();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let images: Vec<String> = pod.spec.iter().flat_map(pod_images).collect();
    let mut versions = cluster.api.log[Kind::Deployment.index()].iter();
    versions.any(|entry| {
        entry.key.namespace == namespace
            && owner.is_some_and(|owner| owner.name != entry.key.name)
            && images_of(&entry.object.value)
                .iter()
                .any(|image| images.contains(image))
    })
}

/// L4: a new controller on the same store has nothing to do.
fn check_restart(leader: &Replica, monitor: &Monitor, cluster: &Cluster) -> Result<(), Violation> {
    // Without a finished pod, or without an image that no pod refers to, a new leader finds no proof.
    let deleted = [
        Fault::PodDeletes,
        Fault::NodeChurn,
        Fault::ImageGc,
        // Finished pods make room for the rollout's.
        Fault::Quota,
    ];
    let deleted = deleted.into_iter().any(|fault| cluster.options.has(fault));
    if cluster.options.config.refresh.is_some() || deleted {
        return Ok(());
    }
    let mut controller = Controller::new(cluster.options.config.clone());
    let now = Now {
        monotonic: instant(cluster.now()),
        wall: cluster.wall(0),
    };
    let mut out = Output::default();
    let events = controller.start(&leader.store, now, &mut out);
    let granted = Event::PermissionChanged(CreatePermission::Granted);
    for event in std::iter::once(granted).chain(events) {
        controller.apply(event, &leader.store, now, &mut out);
    }
    // A Deployment that refreshes pulls when it is time. Of one that is paused and has no pods, nothing tells how old it is. Pods
    // with failures that stand are deleted, so a new leader tries again.
    let excused = |key: &str| {
        let mut all = leader.store.all_enabled();
        all.any(|workload| {
            let state = &workload.state;
            let failed = (workload.key.clone(), "PrefetchFailed");
            workload.key.name == key
                && (monitor.reported.contains(&failed)
                    || workload.annotations.refresh.is_some()
                    || state.paused && state.replicas == 0)
        })
    };
    for command in &out.commands {
        let detail = match command {
            Command::CreatePod { pod, .. } => {
                let owner = pod.metadata.owner_references.iter().flatten().next();
                if owner.is_some_and(|owner| excused(&owner.name)) || was_shared(pod, cluster) {
                    continue;
                }
                "it creates a pod"
            }
            Command::ResumeRollout { .. } => "it resumes a rollout",
            // A pod may have been kept for long enough this very moment.
            Command::DeletePod { .. }
            | Command::ListPods { .. }
            | Command::ReadPullSecrets { .. }
            | Command::CountPods { .. } => continue,
        };
        let name = crate::term::name_of(command);
        let detail = format!("a new leader finds work where the old one had none: {detail}");
        return Err(Violation::new("L4 restart", &name, &detail));
    }
    Ok(())
}

/// L5: without Deployments the controller has nothing left.
///
/// # Errors
/// Something is left.
pub(crate) fn check_empty(replicas: &[Replica], cluster: &Cluster) -> Result<(), Violation> {
    let now = cluster.now();
    let leader = replicas.iter().find(|replica| replica.is_active(now));
    let Some(term) = leader.and_then(|leader| leader.term.as_ref()) else {
        return Err(Violation::new("L0 leader", "lease", "no replica leads"));
    };
    let stats = term.controller.stats(instant(now));
    let left = term.controller.next_timeout();
    if left.is_some() || stats.nodes + stats.pulling + stats.held + stats.creates > 0 {
        let detail =
            format!("all Deployments are gone, and it has {stats:?} and a timer at {left:?}");
        return Err(Violation::new("L5 empty", "controller", &detail));
    }
    let pods = cluster.api.list(Kind::Pod);
    let mut ours = pods.filter(|(_, pod)| headstart_core::pod::is_prefetch_pod(pod.pod()));
    if let Some((key, _)) = ours.next() {
        return Err(Violation::new(
            "L5 empty",
            &key.name,
            "a prefetch pod is left",
        ));
    }
    Ok(())
}
