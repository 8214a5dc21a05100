//! The cost of a plan where every node is left out, for a reason that is as long as the limits allow.

use headstart_core::plan::{PlacementContext, plan};
use headstart_core::pod::PodSettings;
use headstart_core::scheduling::node::NodeInfo;
use headstart_core::workload::Workload;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::{KIB, peak, turn};

const NODES: usize = 1000;

fn nodes() -> Vec<NodeInfo> {
    let node = |i: usize| {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": format!("node-{i}"), "labels": {"kubernetes.io/hostname": format!("node-{i}")}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .expect("a node");
        NodeInfo::from_node(&node).expect("it has a name")
    };
    (0..NODES).map(node).collect()
}

fn workload(metadata: Value, spec: Value) -> Workload {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": "web", "annotations": metadata},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}}},
    });
    json_patch::merge(&mut object["spec"]["template"]["spec"], &spec);
    let deployment = serde_json::from_value(object).expect("a Deployment");
    Workload::from_deployment(&deployment).expect("it has a name and a template")
}

#[test]
fn what_a_deployment_says_is_not_copied_for_each_node() {
    let _turn = turn();
    let values: Vec<String> = (0..60).map(|i| format!("{i:060}")).collect();
    let selector = format!("pool in ({})", values.join(","));
    let term = json!({"matchExpressions": [{"key": "pool", "operator": "In", "values": values}]});
    let affinity = json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
    }}});
    let nodes = nodes();
    let settings = PodSettings::new("");
    for (reason, web) in [
        (
            "NotSelected",
            workload(json!({"headstart.dev/node-selector": selector}), json!({})),
        ),
        ("NodeAffinityMismatch", workload(json!({}), affinity)),
        (
            "OtherNode",
            workload(json!({}), json!({"nodeName": "n".repeat(4000)})),
        ),
        (
            "NodeSelectorMismatch",
            workload(
                json!({}),
                json!({"nodeSelector": {"kubernetes.io/hostname": "v".repeat(4000)}}),
            ),
        ),
        (
            "InvalidAnnotation",
            workload(
                json!({"headstart.dev/node-selector": "a,".repeat(1_000_000)}),
                json!({}),
            ),
        ),
    ] {
        let context = PlacementContext::default();
        let planned = plan(&web, &nodes, &context, &settings);
        assert_eq!(planned.skipped.len(), NODES);
        for (_, why) in &planned.skipped {
            assert_eq!(why.reason(), reason);
            let sentence = why.to_string();
            assert!(sentence.len() < KIB, "{sentence}");
        }
        drop(planned);
        let taken = peak(|| plan(&web, &nodes, &context, &settings));
        assert!(taken <= 256 * NODES, "{reason}: {taken} bytes");
    }
}
