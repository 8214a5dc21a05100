//! Objects for tests, here and in the crates that use this one.

use serde_json::{Value, json};

use crate::pod::{NodeBinding, PodSettings, RunAs};
use crate::scheduling::node::NodeInfo;
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

/// How prefetch pods are made, unless a test wants it otherwise.
pub fn settings() -> PodSettings {
    PodSettings {
        noop_image: "headstart:v1".into(),
        method: None,
        binding: NodeBinding::NodeName,
        priority_class: Some("headstart-prefetch".into()),
        run_as: RunAs::Default,
        deadline_seconds: 1800,
    }
}
