use super::*;
use crate::testing::node_info;
use serde_json::{Value, json};

fn constraints(spec: &Value) -> SchedulingConstraints {
    SchedulingConstraints::from_pod_spec(&serde_json::from_value(spec.clone()).unwrap())
}

fn reason(node: &Value, spec: &Value) -> Option<&'static str> {
    let (constraints, node) = (constraints(spec), node_info(node));
    constraints.filter(&node).map(|excluded| excluded.reason())
}

#[test]
fn an_ordinary_node_takes_an_ordinary_pod() {
    assert_eq!(reason(&json!({}), &json!({})), None);
    let spec = json!({"nodeSelector": {"pool": "web"}, "nodeName": "n1", "os": {"name": "linux"}});
    assert_eq!(reason(&json!({}), &spec), None);
}

#[test]
fn each_filter_has_its_reason() {
    let plain = json!({});
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "gpu", "value": "a", "effect": effect}]}});
    let tolerating = |toleration: Value| json!({"tolerations": [toleration]});
    let cordoned = json!({"spec": {"unschedulable": true}});
    let affinity = |zone: &str| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "In", "values": [zone]}]}],
        }}}})
    };
    let windows = json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}});
    let untolerated = Some("UntoleratedTaint");
    let gpu =
        json!({"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": 1}}}]});
    let without = json!({"status": {"allocatable": {"cpu": "4", "nvidia.com/gpu": "0"}}});
    let with = json!({"status": {"allocatable": {"cpu": "4", "nvidia.com/gpu": "1"}}});
    let table = [
        (&plain, json!({"nodeName": "n2"}), Some("OtherNode")),
        (&plain, json!({"nodeName": ""}), None),
        (
            &plain,
            json!({"nodeSelector": {"pool": "db"}}),
            Some("NodeSelectorMismatch"),
        ),
        (
            &plain,
            json!({"nodeSelector": {"zone": "a"}}),
            Some("NodeSelectorMismatch"),
        ),
        (&plain, affinity("web"), None),
        (&plain, affinity("db"), Some("NodeAffinityMismatch")),
        (
            &plain,
            json!({"os": {"name": "windows"}}),
            Some("OperatingSystem"),
        ),
        (&windows, json!({}), Some("OperatingSystem")),
        (
            &windows,
            json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
            Some("OperatingSystem"),
        ),
        (
            &plain,
            json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
            Some("NodeSelectorMismatch"),
        ),
        (&cordoned, json!({}), Some("Cordoned")),
        (
            &cordoned,
            tolerating(json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"})),
            None,
        ),
        (
            &json!({"status": {"conditions": null}}),
            json!({}),
            Some("NotReady"),
        ),
        (&taint("NoSchedule"), json!({}), untolerated),
        (&taint("NoExecute"), json!({}), untolerated),
        (&taint("PreferNoSchedule"), json!({}), None),
        (
            &taint("NoSchedule"),
            tolerating(json!({"key": "gpu", "value": "a"})),
            None,
        ),
        (
            &taint("NoSchedule"),
            tolerating(json!({"key": "gpu", "value": "b"})),
            untolerated,
        ),
        (
            &taint("NoSchedule"),
            tolerating(json!({"operator": "Exists"})),
            None,
        ),
        (
            &taint("NoSchedule"),
            tolerating(json!({"operator": "Exists", "effect": "NoExecute"})),
            untolerated,
        ),
        (&without, gpu.clone(), Some("InsufficientResources")),
        (&with, gpu.clone(), None),
        (&plain, gpu, None),
    ];
    for (node, spec, expected) in table {
        assert_eq!(reason(node, &spec), expected, "node {node}, spec {spec}");
    }
}

#[test]
fn tolerating_an_outage_for_a_while_opens_no_node_that_is_down() {
    let down = |effect: &str| json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": effect}]}});
    let for_a_while = json!({"tolerations": [{
        "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
    }]});
    let for_good = json!({"tolerations": [{"operator": "Exists"}]});
    assert_eq!(reason(&down("NoExecute"), &for_a_while), Some("NotReady"));
    assert_eq!(
        reason(&down("NoSchedule"), &for_a_while),
        Some("UntoleratedTaint")
    );
    assert_eq!(reason(&down("NoExecute"), &for_good), None);
    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    assert_eq!(reason(&not_ready, &for_good), Some("NotReady"));
    let other = json!({"spec": {"taints": [{"key": "maintenance", "effect": "NoExecute"}]}});
    let briefly = json!({"tolerations": [{"key": "maintenance", "operator": "Exists", "tolerationSeconds": 60}]});
    assert_eq!(reason(&other, &briefly), None);
}

#[test]
fn startup_taints_are_looked_through_and_no_others() {
    let spec = constraints(&json!({}));
    let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
    let cilium = taint("node.cilium.io/agent-not-ready", "NoExecute");
    let cloud = taint(
        "node.cloudprovider.kubernetes.io/uninitialized",
        "NoSchedule",
    );
    let node = |taints: Value| node_info(&json!({"spec": {"taints": taints}}));
    let startup_taints: StartupTaints =
        "node.cilium.io/agent-not-ready,node.cloudprovider.kubernetes.io/uninitialized"
            .parse()
            .unwrap();
    let options = FilterOptions {
        startup_taints,
        ..FilterOptions::default()
    };
    let startup = &options.startup_taints;
    let both = node(json!([cilium, cloud]));
    assert_eq!(spec.filter_with(&both, &options), None);
    assert!(both.is_usable(startup) && !both.is_usable(&StartupTaints::default()));
    assert!(spec.filter(&both).is_some());
    let other = node(json!([cilium, taint("gpu", "NoSchedule")]));
    let reason = spec.filter_with(&other, &options);
    assert_eq!(reason.unwrap().reason(), "UntoleratedTaint");
}

#[test]
fn a_node_that_is_named_needs_no_scheduler() {
    let named = json!({"nodeName": "n1"});
    let taint = |effect: &str| json!({"spec": {"unschedulable": true, "taints": [{"key": "a", "effect": effect}]}});
    assert_eq!(reason(&taint("NoSchedule"), &named), None);
    assert_eq!(
        reason(&taint("NoExecute"), &named),
        Some("UntoleratedTaint")
    );
}

#[test]
fn a_virtual_kubelet_stays_one_when_its_taint_is_tolerated() {
    let node = json!({"spec": {"taints": [{"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"}]}});
    let spec = json!({"tolerations": [{"operator": "Exists"}]});
    assert_eq!(reason(&node, &spec), Some("VirtualKubelet"));
}

#[test]
fn sentences_name_the_label_and_the_taint() {
    let sentence = |node: Value, spec: Value| {
        constraints(&spec)
            .filter(&node_info(&node))
            .map(|excluded| excluded.to_string())
    };
    assert_eq!(
        sentence(
            json!({"spec": {"taints": [{"key": "gpu", "value": "a", "effect": "NoSchedule"}]}}),
            json!({})
        )
        .unwrap(),
        "the pod template does not tolerate the taint gpu=a:NoSchedule"
    );
    assert_eq!(
        sentence(json!({}), json!({"nodeSelector": {"zone": "a"}})).unwrap(),
        "nodeSelector wants zone=a, the node has no such label"
    );
}
