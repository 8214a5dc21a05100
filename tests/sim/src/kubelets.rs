//! Kubelets: they pull the images of the pods that are bound to their node, one pod or one image after another, and report.

use std::collections::BTreeMap;

use headstart_core::pod::node_of;
use headstart_core::scheduling::node::NodeInfo;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use crate::api_server::{
    Kind, LogEntry, Object, ObjectKey, Preconditions, is_finished, is_terminating,
};
use crate::cluster::{Cluster, POD_SLOTS};
use crate::queue::Step;
use crate::registry::Answer;

/// How long a kubelet waits before it pulls again: doubled from the first to the last, in milliseconds.
const PULL_BACKOFF: (u64, u64) = (10_000, 300_000);

/// All kubelets, by the name of the node.
#[derive(Debug, Default)]
pub(crate) struct Kubelets {
    nodes: BTreeMap<String, Kubelet>,
}

/// The kubelet of a node.
#[derive(Debug, Default)]
pub(crate) struct Kubelet {
    uid: String,
    /// It does nothing until then.
    pub frozen_until: u64,
    /// When its pulls are done, if it pulls one image after another.
    busy_until: u64,
    pods: BTreeMap<String, PodWork>,
}

/// A pod that the kubelet works on.
#[derive(Debug)]
struct PodWork {
    key: ObjectKey,
    images: Vec<(String, ImageWork)>,
    started_at: u64,
    deadline: Option<u64>,
    attempts: u32,
    /// The image that is being pulled, and what the pull will bring.
    pulling: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ImageWork {
    Pending,
    Pulled,
    Failed(String),
}

impl Kubelets {
    /// Starts the kubelet of a node.
    pub(crate) fn start(&mut self, node: &str, uid: &str, cluster: &mut Cluster) {
        let kubelet = Kubelet {
            uid: uid.to_owned(),
            ..Kubelet::default()
        };
        self.nodes.insert(node.to_owned(), kubelet);
        let report = Step::ReportImages {
            node: node.to_owned(),
            node_uid: uid.to_owned(),
        };
        cluster.queue.after(20_000, report);
        // Pods that were bound to a node by this name are its own.
        let bound: Vec<_> = cluster
            .api
            .list(Kind::Pod)
            .map(|(_, pod)| pod.clone())
            .collect();
        for pod in bound {
            self.on_pod(&pod, cluster);
        }
    }

    /// Ends the kubelet of a node that is gone.
    pub(crate) fn stop(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Returns the kubelet of a node.
    pub(crate) fn get_mut(&mut self, node: &str) -> Option<&mut Kubelet> {
        self.nodes.get_mut(node)
    }

    /// Lets all kubelets recover.
    pub(crate) fn heal(&mut self, now: u64) {
        for kubelet in self.nodes.values_mut() {
            kubelet.frozen_until = kubelet.frozen_until.min(now);
        }
    }

    /// Takes a change of a pod.
    pub(crate) fn on_change(&mut self, change: &LogEntry, cluster: &mut Cluster) {
        if !change.deleted {
            self.on_pod(&change.object, cluster);
        }
    }

    fn on_pod(&mut self, object: &Object, cluster: &mut Cluster) {
        let pod = &object.value;
        let Some(node) = pod["spec"]["nodeName"].as_str() else {
            return;
        };
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let Some(kubelet) = self.nodes.get_mut(node).filter(|_| !is_finished(pod)) else {
            return;
        };
        if kubelet.pods.contains_key(uid) {
            if is_terminating(pod) {
                let delay = cluster.draw(&["kill", node, uid]).within(20..=1000);
                cluster.queue.after(delay, sync(node, &kubelet.uid, uid));
            }
            return;
        }
        let key = ObjectKey::new(
            Kind::Pod,
            pod["metadata"]["namespace"].as_str().unwrap_or_default(),
            pod["metadata"]["name"].as_str().unwrap_or_default(),
        );
        let Some(spec) = &object.pod().spec else {
            return;
        };
        let deadline = spec.active_deadline_seconds;
        let work = PodWork {
            key,
            images: pod_images(spec)
                .map(|image| (image, ImageWork::Pending))
                .collect(),
            started_at: 0,
            deadline: deadline.and_then(|seconds| u64::try_from(seconds * 1000).ok()),
            attempts: 0,
            pulling: None,
        };
        kubelet.pods.insert(uid.to_owned(), work);
        let delay = cluster.draw(&["kubelet", node, uid]).within(20..=1000);
        let step = sync(node, &kubelet.uid, uid);
        cluster.queue.after(delay, step);
    }

    /// Works on a pod.
    pub(crate) fn sync_pod(
        &mut self,
        node: &str,
        node_uid: &str,
        pod: &str,
        cluster: &mut Cluster,
    ) {
        let Some(kubelet) = self.nodes.get_mut(node) else {
            return;
        };
        if kubelet.uid != node_uid || !kubelet.pods.contains_key(pod) {
            return;
        }
        let again = sync(node, node_uid, pod);
        let blocked = kubelet.frozen_until.max(cluster.api_down_until);
        if blocked > cluster.now() {
            let delay = cluster.draw(&["thaw", node, pod]).within(100..=2000);
            cluster.queue.at(blocked + delay, again);
            return;
        }
        let Some(work) = kubelet.pods.get_mut(pod) else {
            return;
        };
        let stored = cluster.api.get(&work.key).ok();
        let stored = stored.filter(|stored| stored.uid() == pod && !is_finished(&stored.value));
        let Some(stored) = stored else {
            kubelet.pods.remove(pod);
            return;
        };
        if is_terminating(&stored.value) {
            let any = Preconditions::default();
            let _ = cluster.api.delete_within(&work.key, &any, Some(0));
            kubelet.pods.remove(pod);
            return;
        }
        let now = cluster.now();
        if work.started_at == 0 {
            if let Some(status) = refusal(node, &stored.value, cluster) {
                cluster.note(|| format!("kubelet {node} refuses {}", stored.metadata("name")));
                let _ = cluster.api.patch_status(&work.key, &status);
                kubelet.pods.remove(pod);
                return;
            }
            work.started_at = now;
            if let Some(deadline) = work.deadline {
                cluster.queue.after(deadline, again.clone());
            }
            let status = json!({"phase": "Pending", "startTime": cluster.wall(0)});
            let _ = cluster.api.patch_status(&work.key, &status);
        }
        if work
            .deadline
            .is_some_and(|deadline| now >= work.started_at + deadline)
        {
            let status = json!({
                "phase": "Failed", "reason": "DeadlineExceeded",
                "message": "Pod was active on the node longer than the specified deadline",
            });
            let _ = cluster.api.patch_status(&work.key, &status);
            kubelet.pods.remove(pod);
            return;
        }
        if let Some(index) = work.pulling.take() {
            let Some((image, state)) = work.images.get_mut(index) else {
                return;
            };
            let answer = cluster.registry.answer(image);
            match answer.message(image) {
                Some(message) => *state = ImageWork::Failed(message),
                None if answer == Answer::Tarpit => {
                    work.pulling = Some(index);
                    cluster.queue.after(5000, again);
                    return;
                }
                None => {
                    cluster.images.add(node_uid, image);
                    *state = ImageWork::Pulled;
                }
            }
        }
        if let Some(next) = next_image(work, node_uid, cluster) {
            work.pulling = Some(next);
            let image = work.images[next].0.clone();
            let mut random = cluster.draw(&["pull", node, &image]);
            let duration = match cluster.registry.answer(&image) {
                Answer::Image => random.within(500..=15_000),
                _ => random.within(200..=3000),
            };
            let begin = if cluster.options.serial_pulls {
                now.max(kubelet.busy_until)
            } else {
                now
            };
            kubelet.busy_until = begin + duration;
            cluster.queue.at(begin + duration, again);
            return;
        }
        report(work, cluster);
        let failed = |(_, state): &(String, ImageWork)| matches!(state, ImageWork::Failed(_));
        if work.images.iter().any(failed) {
            let (first, last) = PULL_BACKOFF;
            let pause = (first << work.attempts.min(5)).min(last);
            work.attempts += 1;
            for (_, state) in &mut work.images {
                if matches!(state, ImageWork::Failed(_)) {
                    *state = ImageWork::Pending;
                }
            }
            cluster.queue.after(pause, again);
        } else {
            cluster.note(|| {
                format!(
                    "kubelet {node} has the images of {}",
                    stored.metadata("name")
                )
            });
            kubelet.pods.remove(pod);
        }
    }

    /// Throws the first pod of a node out.
    pub(crate) fn evict(&mut self, node: &str, cluster: &mut Cluster) {
        let Some(kubelet) = self.nodes.get_mut(node) else {
            return;
        };
        if let Some((_, work)) = kubelet.pods.pop_first() {
            let status = json!({
                "phase": "Failed", "reason": "Evicted",
                "message": "The node was low on resource: ephemeral-storage.",
            });
            let _ = cluster.api.patch_status(&work.key, &status);
        }
    }

    /// Removes the images of a node that no pod refers to.
    pub(crate) fn collect_images(&mut self, node: &str, cluster: &mut Cluster) {
        let Some(uid) = self.nodes.get(node).map(|kubelet| kubelet.uid.clone()) else {
            return;
        };
        let pods = cluster.api.list(Kind::Pod);
        let on_node = pods.filter(|(_, pod)| node_of(pod.pod()) == Some(node));
        let used: Vec<String> = on_node
            .flat_map(|(_, pod)| pod.pod().spec.iter().flat_map(pod_images))
            .collect();
        let images = cluster.images.on_node(&uid).map(str::to_owned);
        let unused: Vec<String> = images.filter(|image| !used.contains(image)).collect();
        for image in unused {
            cluster.images.remove(&uid, &image, cluster.queue.now);
        }
    }

    /// Reports the images of a node, now and later.
    pub(crate) fn report_images(&mut self, node: &str, node_uid: &str, cluster: &mut Cluster) {
        let alive = self
            .nodes
            .get(node)
            .filter(|kubelet| kubelet.uid == node_uid);
        let Some(kubelet) = alive else { return };
        let again = Step::ReportImages {
            node: node.to_owned(),
            node_uid: node_uid.to_owned(),
        };
        cluster.queue.after(20_000, again);
        if kubelet.frozen_until > cluster.now()
            || !cluster.is_api_up()
            || !cluster.options.node_images
        {
            return;
        }
        let images: Vec<Value> = cluster
            .images
            .on_node(node_uid)
            .map(|image| json!({"names": [full_name(image)], "sizeBytes": 1}))
            .collect();
        let images = json!(images);
        let key = ObjectKey::new(Kind::Node, "", node);
        let stored = cluster.api.get(&key);
        if stored.is_ok_and(|node| node.value["status"]["images"] == images) {
            return;
        }
        let _ = cluster.api.patch_status(&key, &json!({ "images": images }));
    }
}

/// Returns an image by the name that the runtime gives it.
fn full_name(image: &str) -> String {
    if image.contains('/') {
        image.to_owned()
    } else {
        format!("docker.io/library/{image}")
    }
}

fn sync(node: &str, node_uid: &str, pod: &str) -> Step {
    Step::SyncPod {
        node: node.to_owned(),
        node_uid: node_uid.to_owned(),
        pod: pod.to_owned(),
    }
}

/// Returns the images of a pod: those that its containers mount or run.
pub fn pod_images(spec: &PodSpec) -> impl Iterator<Item = String> + '_ {
    let mounted = move |name: &str| {
        let mut volumes = spec.volumes.iter().flatten();
        let volume = volumes.find(|volume| volume.name == name)?;
        volume.image.as_ref()?.reference.clone()
    };
    let containers = spec.containers.iter();
    containers
        .filter_map(move |container| mounted(&container.name).or_else(|| container.image.clone()))
}

/// Returns the status of a pod that the kubelet refuses.
fn refusal(node: &str, pod: &Value, cluster: &Cluster) -> Option<Value> {
    if cluster.pods_on(node) > POD_SLOTS {
        return Some(json!({
            "phase": "Failed", "reason": "OutOfpods",
            "message": "Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110",
        }));
    }
    let node = cluster
        .api
        .get(&ObjectKey::new(Kind::Node, "", node))
        .ok()?;
    if NodeInfo::from_node(node.node()).is_some_and(|node| node.has_disk_pressure()) {
        return Some(json!({
            "phase": "Failed", "reason": "Evicted",
            "message": "The node had condition: [DiskPressure]. ",
        }));
    }
    let taints = node.value["spec"]["taints"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let tolerated = |taint: &Value| {
        let tolerations = pod["spec"]["tolerations"].as_array();
        tolerations.into_iter().flatten().any(|toleration| {
            toleration["operator"] == "Exists"
                && (toleration["key"].is_null() || toleration["key"] == taint["key"])
        })
    };
    let evicts = |taint: &&Value| taint["effect"] == "NoExecute" && !tolerated(taint);
    taints.iter().find(evicts).map(|_| {
        json!({
            "phase": "Failed", "reason": "TaintToleration",
            "message": "Pod was rejected: node had a taint that it does not tolerate",
        })
    })
}

/// Returns the next image of a pod that is to be pulled. Those that are on the node are not.
fn next_image(work: &mut PodWork, node_uid: &str, cluster: &Cluster) -> Option<usize> {
    for (index, (image, state)) in work.images.iter_mut().enumerate() {
        if *state != ImageWork::Pending {
            continue;
        }
        if !cluster.images.has(node_uid, image) {
            return Some(index);
        }
        *state = ImageWork::Pulled;
    }
    None
}

/// Writes the status of a pod whose images are all decided, for now.
fn report(work: &PodWork, cluster: &mut Cluster) {
    let done = work
        .images
        .iter()
        .all(|(_, state)| *state == ImageWork::Pulled);
    let finished = cluster.wall(0);
    let container = |(index, (image, state)): (usize, &(String, ImageWork))| {
        let (id, state) = match state {
            ImageWork::Failed(message) => {
                let waiting = json!({"reason": "ErrImagePull", "message": message});
                ("", json!({ "waiting": waiting }))
            }
            _ if done => {
                let terminated = json!({"exitCode": 0, "finishedAt": finished});
                ("sha256:1", json!({ "terminated": terminated }))
            }
            _ => ("sha256:1", json!({"running": {"startedAt": finished}})),
        };
        json!({
            "name": format!("image-{index}"), "image": image, "imageID": id, "ready": false, "restartCount": 0,
            "state": state,
        })
    };
    let containers: Vec<Value> = work.images.iter().enumerate().map(container).collect();
    let phase = if done { "Succeeded" } else { "Pending" };
    let status = json!({"phase": phase, "containerStatuses": containers});
    let _ = cluster.api.patch_status(&work.key, &status);
}
