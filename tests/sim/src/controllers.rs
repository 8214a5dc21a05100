//! The controllers of Kubernetes that headstart meets: Deployments with their pods, and the garbage collectors.

use std::collections::BTreeMap;
use std::rc::Rc;

use headstart_core::workload::Workload;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::api_server::{Kind, LogEntry, Object, ObjectKey, Preconditions};
use crate::cluster::Cluster;
use crate::nodes::planned_nodes;
use crate::queue::Step;
use crate::registry::Answer;
use crate::workloads::{DeploymentId, images_of, is_paused};

/// How long a rollout may make no progress, in milliseconds.
const PROGRESS_DEADLINE: u64 = 600_000;
/// How often the pod garbage collector runs.
const POD_GC_INTERVAL: u64 = 20_000;

/// The controllers.
#[derive(Debug, Default)]
pub(crate) struct Controllers {
    /// The name of each Deployment by its number.
    names: BTreeMap<DeploymentId, ObjectKey>,
    rollouts: BTreeMap<ObjectKey, Rollout>,
}

/// The pods of a Deployment.
#[derive(Debug)]
struct Rollout {
    uid: String,
    images: Rc<Vec<String>>,
    /// The nodes of its pods, and whether each is ready.
    pods: Vec<(String, bool)>,
    progressed: (u64, Timestamp),
    /// Why a quota refuses its next pod.
    refused: Option<String>,
}

impl Controllers {
    /// Begins.
    pub(crate) fn start(&mut self, cluster: &mut Cluster) {
        cluster.queue.after(POD_GC_INTERVAL, Step::CollectPods);
    }

    /// Takes a change of a Deployment.
    pub(crate) fn on_change(&mut self, change: &LogEntry, cluster: &mut Cluster) {
        let key = &change.key;
        let number = key.name.trim_start_matches("web").parse().unwrap_or(0);
        let id = DeploymentId(number);
        if change.deleted {
            self.rollouts.remove(key);
            self.report_pods(&key.namespace, cluster);
            let uid = change.object.uid().to_owned();
            let delay = cluster.draw(&["collect", &uid]).within(100..=3000);
            let namespace = key.namespace.clone();
            cluster
                .queue
                .after(delay, Step::CollectOwned { namespace, uid });
            return;
        }
        self.names.insert(id, key.clone());
        let delay = cluster.draw(&["sync", &key.name]).within(20..=500);
        cluster.queue.after(delay, Step::SyncDeployment(id));
    }

    /// Returns the nodes that have pods of a Deployment: those that run, or those that start with all these images.
    pub(crate) fn nodes_of(&self, key: &ObjectKey, starting: Option<&[String]>) -> Vec<String> {
        let Some(rollout) = self.rollouts.get(key) else {
            return Vec::new();
        };
        let wanted = |(_, ready): &&(String, bool)| match starting {
            Some(images) => !ready && rollout.images.as_slice() == images,
            None => true,
        };
        let pods = rollout.pods.iter().filter(wanted);
        pods.map(|(node, _)| node.clone()).collect()
    }

    /// Brings the pods of a Deployment in line with its template, and reports.
    pub(crate) fn sync_deployment(&mut self, id: DeploymentId, cluster: &mut Cluster) {
        let Some(key) = self.names.get(&id).cloned() else {
            return;
        };
        if !cluster.is_api_up() {
            let back = cluster.api_down_until;
            cluster.queue.at(back + 100, Step::SyncDeployment(id));
            return;
        }
        let Ok(object) = cluster.api.get(&key) else {
            return;
        };
        let now = (cluster.now(), cluster.wall(0));
        let images = Rc::new(images_of(&object.value));
        let new = || Rollout {
            uid: object.uid().to_owned(),
            images: Rc::new(Vec::new()),
            pods: Vec::new(),
            progressed: now,
            refused: None,
        };
        let rollout = self.rollouts.entry(key.clone()).or_insert_with(new);
        if rollout.uid != object.uid() {
            *rollout = new();
        }
        let paused = is_paused(&object.value);
        if !paused && rollout.images != images {
            rollout.images = images.clone();
            rollout.pods.clear();
            rollout.progressed = now;
        }
        let replicas = usize::try_from(object.value["spec"]["replicas"].as_u64().unwrap_or(1));
        let replicas = replicas.unwrap_or(1);
        let current = rollout.images == images;
        rollout.pods.truncate(replicas);
        if current {
            add_pods(rollout, id, &object, replicas, cluster);
        }
        let status = status_of(rollout, &object.value, replicas, (current, paused), now);
        let _ = cluster.api.patch_status(&key, &status);
        self.report_pods(&key.namespace, cluster);
    }

    /// Tells the API server how many pods the rollouts of a namespace have.
    fn report_pods(&self, namespace: &str, cluster: &mut Cluster) {
        let of_namespace = self
            .rollouts
            .iter()
            .filter(|(key, _)| key.namespace == namespace);
        let pods = of_namespace.map(|(_, rollout)| rollout.pods.len()).sum();
        let before = cluster.api.rollout_pods.insert(namespace.to_owned(), pods);
        if before != Some(pods) {
            count_for_quota(namespace, cluster);
        }
    }

    /// Returns the Deployments whose pods a quota refuses.
    pub(crate) fn refused(&self) -> Vec<ObjectKey> {
        let refused = self
            .rollouts
            .iter()
            .filter(|(_, rollout)| rollout.refused.is_some());
        refused.map(|(key, _)| key.clone()).collect()
    }

    /// Starts a pod of a rollout, if its images are on the node; otherwise they are pulled.
    pub(crate) fn start_pod(
        &mut self,
        id: DeploymentId,
        images: &Rc<Vec<String>>,
        node: &str,
        cluster: &mut Cluster,
    ) {
        let Some(key) = self.names.get(&id) else {
            return;
        };
        let Some(rollout) = self.rollouts.get_mut(key) else {
            return;
        };
        if rollout.images != *images {
            return;
        }
        let again = Step::StartPod {
            deployment: id,
            images: images.clone(),
            node: node.to_owned(),
        };
        let Some(uid) = cluster.node_uid(node) else {
            // The pod goes with its node, and another is made.
            rollout.pods.retain(|(of, _)| of != node);
            cluster.queue.after(5000, Step::SyncDeployment(id));
            return;
        };
        if !cluster.is_api_up() {
            cluster.queue.at(cluster.api_down_until + 100, again);
            return;
        }
        let answers = images.iter().map(|image| cluster.registry.answer(image));
        let missing = images.iter().any(|image| !cluster.images.has(&uid, image));
        if missing && !answers.eq(images.iter().map(|_| Answer::Image)) {
            cluster.queue.after(20_000, again);
            if cluster.now() > rollout.progressed.0 + PROGRESS_DEADLINE {
                cluster.queue.after(100, Step::SyncDeployment(id));
            }
            return;
        }
        for image in images.iter() {
            cluster.images.add(&uid, image);
        }
        for (of, ready) in &mut rollout.pods {
            *ready |= of == node;
        }
        rollout.progressed = (cluster.now(), cluster.wall(0));
        cluster.queue.after(50, Step::SyncDeployment(id));
    }

    /// Deletes the pods that a Deployment owned.
    pub(crate) fn collect_owned(&mut self, namespace: &str, uid: &str, cluster: &mut Cluster) {
        if !cluster.is_api_up() {
            let step = Step::CollectOwned {
                namespace: namespace.to_owned(),
                uid: uid.to_owned(),
            };
            cluster.queue.at(cluster.api_down_until + 1000, step);
            return;
        }
        let owned = |pod: &Object| {
            let owners = pod.value["metadata"]["ownerReferences"].as_array();
            owners
                .into_iter()
                .flatten()
                .any(|owner| owner["uid"] == uid)
        };
        let pods = cluster.api.list_in(Kind::Pod, namespace);
        let pods: Vec<ObjectKey> = pods
            .filter(|(_, pod)| owned(pod))
            .map(|(key, _)| key.clone())
            .collect();
        for key in pods {
            let _ = cluster.api.delete(&key, &Preconditions::default());
        }
    }

    /// Deletes the pods whose node is gone.
    pub(crate) fn collect_pods(&mut self, cluster: &mut Cluster) {
        cluster.queue.after(POD_GC_INTERVAL, Step::CollectPods);
        if !cluster.is_api_up() {
            return;
        }
        let pods = cluster.api.list(Kind::Pod);
        let pods = pods.map(|(key, pod)| (key.clone(), pod.clone()));
        let bound: Vec<_> = pods
            .filter_map(|(key, pod)| {
                let node = pod.value["spec"]["nodeName"].as_str()?.to_owned();
                Some((key, node))
            })
            .collect();
        for (key, node) in bound {
            if cluster.node_uid(&node).is_none() {
                // No kubelet is there to end it.
                let any = Preconditions::default();
                let _ = cluster.api.delete_within(&key, &any, Some(0));
            }
        }
    }
}

/// Has the quota controller count the pods of a namespace, if a quota does.
pub(crate) fn count_for_quota(namespace: &str, cluster: &mut Cluster) {
    if cluster.api.quota.contains_key(namespace) {
        let delay = cluster.draw(&["count", namespace]).within(100..=5000);
        let step = Step::CountForQuota(namespace.to_owned());
        cluster.queue.after(delay, step);
    }
}

/// Adds the pods that are missing, each on a node where it may run.
fn add_pods(
    rollout: &mut Rollout,
    id: DeploymentId,
    object: &Object,
    replicas: usize,
    cluster: &mut Cluster,
) {
    rollout.refused = None;
    if rollout.pods.len() >= replicas {
        return;
    }
    let nodes = eligible_nodes(object, cluster);
    for index in rollout.pods.len()..replicas {
        let mut random = cluster.draw(&["bind", object.uid(), &index.to_string()]);
        if nodes.is_empty() {
            cluster.queue.after(10_000, Step::SyncDeployment(id));
            return;
        }
        rollout.refused = cluster.api.refusal_by_quota(object.metadata("namespace"));
        if rollout.refused.is_some() {
            cluster.count("rollout: refused by quota");
            let delay = random.within(1000..=5000);
            cluster.queue.after(delay, Step::SyncDeployment(id));
            return;
        }
        let node = random.pick(&nodes);
        let start = Step::StartPod {
            deployment: id,
            images: rollout.images.clone(),
            node: node.clone(),
        };
        cluster.queue.after(random.within(500..=20_000), start);
        rollout.pods.push((node, false));
        let pods = &mut cluster.api.rollout_pods;
        *pods
            .entry(object.metadata("namespace").to_owned())
            .or_default() += 1;
    }
}

/// Returns the nodes where pods of a Deployment may run.
pub(crate) fn eligible_nodes(object: &Object, cluster: &Cluster) -> Vec<String> {
    let Some(mut workload) = Workload::from_deployment(object.deployment()) else {
        return Vec::new();
    };
    // The scheduler does not know of headstart's annotations.
    workload.annotations = headstart_core::api::annotations::Annotations::default();
    let planned = planned_nodes(&cluster.api, &workload, &cluster.options.config.pods);
    planned
        .iter()
        .map(|node| node.metadata("name").to_owned())
        .collect()
}

fn status_of(
    rollout: &Rollout,
    object: &Value,
    replicas: usize,
    (current, paused): (bool, bool),
    now: (u64, Timestamp),
) -> Value {
    let ready = rollout.pods.iter().filter(|(_, ready)| *ready).count();
    let complete = current && ready == replicas;
    let stuck = current && !complete && now.0 > rollout.progressed.0 + PROGRESS_DEADLINE;
    let (status, reason) = match (complete, stuck) {
        _ if paused => ("Unknown", "DeploymentPaused"),
        (true, _) => ("True", "NewReplicaSetAvailable"),
        (false, true) => ("False", "ProgressDeadlineExceeded"),
        (false, false) => ("True", "ReplicaSetUpdated"),
    };
    let updated = if current { rollout.pods.len() } else { 0 };
    let mut conditions = vec![json!({
        "type": "Progressing", "status": status, "reason": reason,
        "lastUpdateTime": rollout.progressed.1, "lastTransitionTime": rollout.progressed.1,
    })];
    if let Some(why) = &rollout.refused {
        conditions.push(json!({
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": why,
        }));
    }
    json!({
        "observedGeneration": object["metadata"]["generation"],
        "replicas": rollout.pods.len(),
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": replicas.saturating_sub(ready),
        "conditions": conditions,
    })
}
