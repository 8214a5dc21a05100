//! The rest of the cluster: kubelets that pull the images of pods, garbage collectors, and rollouts that come to their end.

use std::collections::BTreeSet;
use std::time::Duration;

use headstart_core::api::well_known::MANAGED_BY_LABEL;
use headstart_sim::api_server::{Kind, LogEntry, Object, ObjectKey, Preconditions, is_finished};
use headstart_sim::pod_images;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::checks;
use crate::options::Options;
use crate::server::Server;

/// Runs until the runtime ends.
pub(crate) async fn run(server: Server, options: Options) {
    let mut pods = server.changes(Kind::Pod);
    let mut nodes = server.changes(Kind::Node);
    let mut deployments = server.changes(Kind::Deployment);
    let mut seen = [0; Kind::ALL.len()];
    let mut started = BTreeSet::new();
    loop {
        for kind in [Kind::Pod, Kind::Node, Kind::Deployment] {
            let changes = server.with(|state| {
                let log = &state.api.log[kind.index()];
                let changes = log[seen[kind.index()]..].to_vec();
                seen[kind.index()] = log.len();
                changes
            });
            for change in changes {
                let uid = change.object.uid().to_owned();
                match kind {
                    Kind::Pod if !change.deleted && started.insert(uid) => {
                        server.spawn(run_pod(server.clone(), options.clone(), change.object));
                    }
                    Kind::Deployment | Kind::Node if change.deleted => {
                        server.spawn(collect(server.clone(), change));
                    }
                    Kind::Deployment if options.rollouts => {
                        server.spawn(roll_out(server.clone(), change));
                    }
                    _ => {}
                }
            }
        }
        tokio::select! {
            _ = pods.changed() => {}
            _ = nodes.changed() => {}
            _ = deployments.changed() => {}
        }
    }
}

/// Pulls the images of a pod, as the kubelet of its node.
async fn run_pod(server: Server, options: Options, pod: std::sync::Arc<Object>) {
    let key = ObjectKey::new(Kind::Pod, pod.metadata("namespace"), pod.metadata("name"));
    let spec = pod.pod().spec.clone().unwrap_or_default();
    let images: Vec<String> = pod_images(&spec).collect();
    let node = ObjectKey::new(
        Kind::Node,
        "",
        spec.node_name.as_deref().unwrap_or_default(),
    );
    let node_uid = server.with(|state| Some(state.api.get(&node).ok()?.uid().to_owned()));
    let Some(node_uid) = node_uid else {
        // The pod garbage collector finds it.
        sleep(Duration::from_secs(40)).await;
        let _ = server.with(|state| state.api.delete(&key, &Preconditions::default()));
        return;
    };
    let mut random = server.with(|state| state.draws.of(&["pod", &key.name]));
    let evicted = random.per_mille(options.evictions);
    let pause = |milliseconds: u64| sleep(Duration::from_millis(milliseconds));
    let write = |status: Value| {
        server.with(|state| {
            let same = |stored: &Object, uid: &str| stored.uid() == uid;
            let alive = state
                .api
                .get(&key)
                .is_ok_and(|stored| same(&stored, pod.uid()) && !is_finished(&stored.value))
                && state
                    .api
                    .get(&node)
                    .is_ok_and(|stored| same(&stored, &node_uid));
            state.note(&format!("kubelet writes {}: {alive} {status}", key.name));
            if alive {
                state.api.patch_status(&key, &status).unwrap();
            }
            alive
        })
    };
    server.with(|state| state.note(&format!("kubelet {} has {}", node.name, key.name)));
    pause(random.within(20..=1000)).await;
    let now = || server.with(|state| state.api.now.1);
    if !write(json!({"phase": "Pending", "startTime": now()})) {
        return;
    }
    pause(random.within(300..=15_000)).await;
    if evicted {
        server.with(|state| state.count("pod evicted"));
        write(
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
        );
        return;
    }
    let finished = now();
    let status = |(index, image): (usize, &String)| {
        json!({
            "name": format!("image-{index}"), "image": image, "imageID": "sha256:1", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "finishedAt": finished}},
        })
    };
    let containers: Vec<Value> = images.iter().enumerate().map(status).collect();
    if write(json!({"phase": "Succeeded", "containerStatuses": containers})) {
        let images = images.into_iter().map(|image| (node_uid.clone(), image));
        server.with(|state| state.pulled.extend(images));
    }
}

/// Deletes the pods of a Deployment or of a node that is gone.
async fn collect(server: Server, gone: LogEntry) {
    let uid = gone.object.uid();
    let mut random = server.with(|state| state.draws.of(&["collect", uid]));
    sleep(Duration::from_millis(random.within(100..=20_000))).await;
    server.with(|state| {
        let is_of = |pod: &Object| match gone.key.kind {
            Kind::Node => pod.value["spec"]["nodeName"] == gone.key.name.as_str(),
            _ => pod.owner_uid() == Some(uid),
        };
        let pods = state.api.list(Kind::Pod).filter(|(_, pod)| is_of(pod));
        let pods: Vec<ObjectKey> = pods.map(|(key, _)| key.clone()).collect();
        for key in pods {
            let _ = state.api.delete(&key, &Preconditions::default());
        }
    });
}

/// Completes the rollout of a Deployment once nothing pauses it and its images are on the nodes.
async fn roll_out(server: Server, change: LogEntry) {
    let generation = change.object.value["metadata"]["generation"].clone();
    if change.object.value["status"]["observedGeneration"] == generation {
        return;
    }
    loop {
        sleep(Duration::from_secs(1)).await;
        let done = server.with(|state| {
            let Ok(stored) = state.api.get(&change.key) else {
                return true;
            };
            let value = &stored.value;
            if value["metadata"]["generation"] != generation || stored.uid() != change.object.uid() {
                return true;
            }
            let paused = value["spec"]["paused"] == true;
            if paused || !checks::missing_images(state, &change.key, &stored).is_empty() {
                return false;
            }
            let replicas = &value["spec"]["replicas"];
            let progressing = json!({
                "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
                "lastUpdateTime": state.api.now.1, "lastTransitionTime": state.api.now.1,
            });
            let status = json!({
                "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                "readyReplicas": replicas, "availableReplicas": replicas, "conditions": [progressing],
            });
            state.api.patch_status(&change.key, &status).unwrap();
            true
        });
        if done {
            return;
        }
    }
}

/// Returns whether a pod is one of headstart's.
pub(crate) fn is_ours(pod: &Object) -> bool {
    pod.label(MANAGED_BY_LABEL).is_some()
}
