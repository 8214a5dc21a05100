//! Nodes: they join, go, and have troubles.

use headstart_core::plan::{PlacementContext, plan};
use headstart_core::pod::PodSettings;
use headstart_core::scheduling::node::NodeInfo;
use headstart_core::workload::Workload;
use serde_json::{Value, json};

use crate::actions::ActionKind;
use crate::api_server::{ApiServer, Kind, Object, ObjectKey, Preconditions};
use crate::cluster::{Cluster, POD_SLOTS};
use crate::kubelets::Kubelets;
use crate::queue::Step;
use crate::workloads::DEVICE;

/// Lets a node join.
pub(crate) fn join(name: &str, kubelets: &mut Kubelets, cluster: &mut Cluster) {
    let number: u64 = name.trim_start_matches('n').parse().unwrap_or(0);
    let old = number % 4 == 3;
    let kubelet = if old { "v1.31.0" } else { "v1.37.2" };
    let architecture = if number % 5 == 4 { "arm64" } else { "amd64" };
    let object = node_object(name, &format!("p{}", number % 2), architecture, kubelet);
    if let Ok(node) = cluster.api.create(Kind::Node, object, "") {
        cluster.note(|| format!("node {name} joins"));
        kubelets.start(name, node.uid(), cluster);
    }
}

/// Returns a node that is ready, as its kubelet of this version creates it.
pub fn node_object(name: &str, pool: &str, architecture: &str, kubelet: &str) -> Value {
    json!({
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": architecture, "pool": pool},
        },
        "spec": {},
        "status": {
            "conditions": [ready("True")],
            "allocatable": {"pods": POD_SLOTS.to_string(), DEVICE: if pool == "p1" { "1" } else { "0" }},
            "nodeInfo": {
                "architecture": architecture, "bootID": "", "containerRuntimeVersion": "containerd://2.4.2",
                "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": kubelet, "machineID": "",
                "operatingSystem": "linux", "osImage": "", "systemUUID": "",
            },
        },
    })
}

/// Returns the nodes that a plan over all stored nodes chooses, in the order of their names.
pub fn planned_nodes<'a>(
    api: &'a ApiServer,
    workload: &Workload,
    settings: &PodSettings,
) -> Vec<&'a Object> {
    let nodes = api.list(Kind::Node).map(|(_, node)| &**node);
    let nodes: Vec<(&Object, NodeInfo)> = nodes
        .filter_map(|node| Some((node, NodeInfo::from_node(node.node())?)))
        .collect();
    let infos = nodes.iter().map(|(_, info)| info);
    let planned = plan(workload, infos, &PlacementContext::default(), settings).nodes;
    let named = |name: &str| nodes.iter().find(|(_, info)| info.name == name);
    let planned = planned.iter().filter_map(|(name, _)| named(name));
    planned.map(|(node, _)| *node).collect()
}

fn ready(status: &str) -> Value {
    json!({"type": "Ready", "status": status})
}

/// Lets something happen to a node. Returns false if the action is about something else.
pub(crate) fn act(action: &ActionKind, kubelets: &mut Kubelets, cluster: &mut Cluster) -> bool {
    let name = |n: usize| format!("n{n}");
    match *action {
        ActionKind::AddNode => {
            let number = cluster.options.nodes + cluster.draw(&["add"]).below(3);
            join(&name(number), kubelets, cluster);
        }
        ActionKind::DeleteNode(n) => {
            let node = name(n);
            let key = ObjectKey::new(Kind::Node, "", &node);
            if cluster.is_api_up() && cluster.api.delete(&key, &Preconditions::default()).is_ok() {
                cluster.count("fault: node deleted");
                kubelets.stop(&node);
                let delay = cluster.draw(&["rejoin", &node]).within(500..=90_000);
                cluster.queue.after(delay, Step::Join(node));
            }
        }
        ActionKind::NotReady(n, duration) => {
            cluster.count("fault: node not ready");
            let node = name(n);
            let taints = json!([
                {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
            ]);
            change(&node, &json!({"taints": taints}), Some("False"), cluster);
            cluster.queue.after(duration, Step::Recover(node));
        }
        ActionKind::Cordon(n, duration) => {
            cluster.count("fault: node cordoned");
            let node = name(n);
            change(&node, &json!({"unschedulable": true}), None, cluster);
            cluster.queue.after(duration, Step::Recover(node));
        }
        ActionKind::Taint(n, duration) => {
            cluster.count("fault: node tainted");
            let node = name(n);
            let taints = json!([{"key": "maintenance", "effect": "NoExecute"}]);
            change(&node, &json!({"taints": taints}), None, cluster);
            cluster.queue.after(duration, Step::Recover(node));
        }
        ActionKind::DiskPressure(n, duration) => {
            cluster.count("fault: disk pressure");
            let node = name(n);
            let taints =
                json!([{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]);
            change(&node, &json!({"taints": taints}), None, cluster);
            let pressure = json!({"type": "DiskPressure", "status": "True"});
            let status = json!({"conditions": [ready("True"), pressure]});
            let key = ObjectKey::new(Kind::Node, "", &node);
            let _ = cluster.api.patch_status(&key, &status);
            kubelets.collect_images(&node, cluster);
            cluster.queue.after(duration, Step::Recover(node));
        }
        ActionKind::Freeze(n, duration) => {
            if let Some(kubelet) = kubelets.get_mut(&name(n)) {
                kubelet.frozen_until = cluster.now() + duration;
                cluster.count("fault: kubelet frozen");
            }
        }
        ActionKind::Full(n, free, duration) => {
            let node = name(n);
            let others = POD_SLOTS.saturating_sub(free + cluster.pods_on(&node));
            let until = cluster.now() + duration;
            cluster.others_on.insert(node, (others, until));
            cluster.count("fault: node full");
        }
        ActionKind::Evict(n) => {
            cluster.count("fault: eviction");
            kubelets.evict(&name(n), cluster);
        }
        ActionKind::CollectImages(n) => {
            cluster.count("fault: images removed");
            kubelets.collect_images(&name(n), cluster);
        }
        _ => return false,
    }
    true
}

fn change(node: &str, spec: &Value, status: Option<&str>, cluster: &mut Cluster) {
    let key = ObjectKey::new(Kind::Node, "", node);
    let _ = cluster.api.patch(&key, &json!({ "spec": spec }), "");
    if let Some(status) = status {
        let status = json!({"conditions": [ready(status)]});
        let _ = cluster.api.patch_status(&key, &status);
    }
}

/// Lets a node recover from everything.
pub(crate) fn recover(node: &str, cluster: &mut Cluster) {
    let spec = json!({"taints": null, "unschedulable": null});
    change(node, &spec, Some("True"), cluster);
}
