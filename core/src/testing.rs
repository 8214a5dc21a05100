//! Objects for tests, here and in the crates that use this one.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::pod::PodSettings;
use crate::pod::status::{Failure, FailureKind, ImageStatus, PodStatusSummary};
use crate::scheduling::node::NodeInfo;
use crate::store::{NodeRecord, PrefetchPod};
use crate::workload::Workload;

/// The Deployment `shop/web` with this pod spec.
pub fn workload(spec: Value) -> Workload {
    let deployment = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "web", "generation": 2},
        "spec": {"selector": {}, "template": {"spec": spec}},
    }))
    .expect("a Deployment");
    Workload::from_deployment(&deployment).expect("named, in a namespace")
}

/// An ordinary node, changed by a merge patch.
pub fn node_info(change: &Value) -> NodeInfo {
    let mut node = json!({
        "metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux", "pool": "web"}},
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": node_system_info("v1.37.2", "containerd://2.4.2"),
        },
    });
    json_patch::merge(&mut node, change);
    NodeInfo::from_node(&serde_json::from_value(node).expect("a node")).expect("a name")
}

fn node_system_info(kubelet: &str, runtime: &str) -> Value {
    json!({
        "architecture": "", "bootID": "", "containerRuntimeVersion": runtime, "kernelVersion": "",
        "kubeProxyVersion": "", "kubeletVersion": kubelet, "machineID": "", "operatingSystem": "",
        "osImage": "", "systemUUID": "",
    })
}

/// Returns the settings of prefetch pods, unless a test has its own.
pub fn settings() -> PodSettings {
    PodSettings {
        priority_class: Some("headstart-prefetch".into()),
        ..PodSettings::new("headstart:v1")
    }
}

/// The Deployment `shop/web` with a container for each of these images.
pub fn wants(images: &[&str]) -> Workload {
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(n, image)| json!({"name": format!("c{n}"), "image": image}))
        .collect();
    workload(json!({"containers": containers}))
}

/// A prefetch pod of a Deployment on n1, created at second 100, with these results.
pub fn pod(of: &Workload, outcomes: Vec<ImageStatus>, ended: Option<i64>) -> PrefetchPod {
    let images: Vec<_> = of
        .images
        .iter()
        .map(|image| Some(image.reference.clone()))
        .collect();
    PrefetchPod {
        name: format!("prefetch-{}", of.image_set),
        uid: of.image_set.to_string(),
        node: "n1".into(),
        owner: Some(of.uid.clone()),
        revision: of.image_set.clone(),
        images: images.into(),
        outcome: PodStatusSummary {
            images: outcomes,
            ended: ended.map(|at| Timestamp::from_second(at).expect("a time")),
            ..PodStatusSummary::default()
        },
        created: Some(Timestamp::from_second(100).expect("a time")),
        deleting: false,
    }
}

/// A failure of this kind.
pub fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: String::new(),
        in_backoff: false,
    }
}

/// A node of this name without images.
pub fn node_record(name: &str) -> NodeRecord {
    let node = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"kubernetes.io/os": "linux"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    let node = serde_json::from_value(node).expect("a node");
    NodeRecord::from_node(&node, true).expect("a name")
}
