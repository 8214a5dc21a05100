use std::sync::LazyLock;

use super::*;
use crate::scheduling::node::UnusableReason;
use crate::testing::workload;
use serde_json::{Value, json};

fn node_with(name: &str, change: &Value) -> NodeInfo {
    let mut node: Value = json!({
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    json_patch::merge(&mut node, change);
    NodeInfo::from_node(&serde_json::from_value(node).unwrap()).unwrap()
}

fn node(name: &str, ready: &str) -> NodeInfo {
    let conditions = json!([{"type": "Ready", "status": ready}]);
    node_with(name, &json!({"status": {"conditions": conditions}}))
}

fn settings(method: Option<PullMethod>) -> PodSettings {
    PodSettings {
        method,
        ..crate::testing::settings()
    }
}

fn annotated(annotations: &[(&str, &str)]) -> Workload {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    let deployment = json!({
        "metadata": {"namespace": "shop", "name": "web", "annotations": annotations},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}}},
    });
    Workload::from_deployment(&serde_json::from_value(deployment).unwrap()).unwrap()
}

fn plan_on<'a>(web: &'a Workload, nodes: impl IntoIterator<Item = &'a NodeInfo>) -> Plan<'a> {
    static NO_CONTEXT: LazyLock<PlacementContext> = LazyLock::new(PlacementContext::default);
    plan(web, nodes, &NO_CONTEXT, &settings(None))
}

fn names<'a>(plan: &'a Plan<'_>) -> Vec<&'a str> {
    plan.nodes.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn every_node_is_either_a_target_or_skipped_for_a_reason() {
    let web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
    let nodes = [node("n3", "True"), node("n1", "True"), node("n2", "False")];
    let forwards = plan_on(&web, &nodes);
    assert_eq!(
        forwards.nodes,
        [
            ("n1".into(), PullMethod::Container),
            ("n3".into(), PullMethod::Container)
        ]
    );
    assert_eq!(
        forwards.skipped,
        [("n2", SkipReason::Unusable(UnusableReason::NotReady))]
    );
    let backwards = plan_on(&web, nodes.iter().rev());
    assert_eq!(backwards, forwards, "order does not matter");
}

#[test]
fn the_method_can_be_overridden() {
    let web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
    let forced = settings(Some(PullMethod::ImageVolume));
    let nodes = [node("n1", "True")];
    let context = PlacementContext::default();
    let forced = plan(&web, &nodes, &context, &forced);
    assert_eq!(forced.nodes, [("n1".into(), PullMethod::ImageVolume)]);
}

#[test]
fn nothing_to_pull_is_nothing_to_do() {
    let web = workload(json!({"containers": [{"name": "a", "image": "Not Valid"}]}));
    assert_eq!(plan_on(&web, &[node("n1", "True")]), Plan::default());
}

#[test]
fn the_annotation_narrows_the_nodes() {
    let pool = |name, pool: &str| node_with(name, &json!({"metadata": {"labels": {"pool": pool}}}));
    let web = annotated(&[("headstart.dev/node-selector", "pool in (web,api)")]);
    let nodes = [pool("n1", "web"), pool("n2", "db")];
    let plan = plan_on(&web, &nodes);
    assert_eq!(names(&plan), ["n1"]);
    let (_, why) = plan.skipped[0];
    assert_eq!(why.reason(), "NotSelected");
    assert_eq!(
        why.to_string(),
        "the annotation headstart.dev/node-selector wants pool in (api,web)"
    );
}

#[test]
fn what_cannot_be_read_of_the_limits_prefetches_nowhere() {
    let nodes = [node("n1", "True")];
    for annotation in ["headstart.dev/node-selector", "headstart.dev/max-nodes"] {
        let web = annotated(&[(annotation, "((")]);
        let plan = plan_on(&web, &nodes);
        assert!(plan.nodes.is_empty());
        assert_eq!(plan.skipped[0].1.reason(), "InvalidAnnotation");
        assert!(plan.skipped[0].1.to_string().contains(annotation));
    }
    let harmless = annotated(&[("headstart.dev/refresh", "((")]);
    assert_eq!(names(&plan_on(&harmless, &nodes)), ["n1"]);
}

#[test]
fn a_cordoned_node_is_left_out_though_the_template_tolerates_the_cordon() {
    let everything = json!({"tolerations": [{"operator": "Exists"}]});
    let web = workload(json!({
        "containers": [{"name": "app", "image": "app:1"}], "tolerations": everything["tolerations"],
    }));
    let cordoned = node_with("n1", &json!({"spec": {"unschedulable": true}}));
    let plan = plan_on(&web, [&cordoned]);
    assert_eq!(names(&plan), [""; 0]);
    assert_eq!(plan.skipped[0].1.reason(), "Cordoned");
}

#[test]
fn a_node_without_room_for_a_pod_is_left_out_if_it_says_so() {
    let web = annotated(&[]);
    let slots = |slots: &str| node_with("n1", &json!({"status": {"allocatable": {"pods": slots}}}));
    let reason = |node: &NodeInfo, pods: u32| {
        let context = PlacementContext {
            pods_on: BTreeMap::from([("n1".to_owned(), pods)]),
            ..PlacementContext::default()
        };
        let plan = plan(&web, [node], &context, &settings(None));
        plan.skipped.first().map(|(_, why)| why.reason())
    };
    assert_eq!(reason(&slots("0"), 0), Some("NoPodSlots"));
    assert_eq!(reason(&slots("3"), 0), None);
    assert_eq!(reason(&slots("3"), 1), Some("NoPodSlots"));
    assert_eq!(reason(&node("n1", "True"), 500), None);
}

fn zoned(zones: &[(&str, usize)]) -> Vec<NodeInfo> {
    let nodes = zones.iter().flat_map(|(zone, count)| {
        (0..*count).map(move |i| {
            let labels = json!({"topology.kubernetes.io/zone": zone});
            node_with(
                &format!("{zone}{i}"),
                &json!({"metadata": {"labels": labels}}),
            )
        })
    });
    nodes.collect()
}

fn per_zone(plan: &Plan<'_>) -> BTreeMap<char, usize> {
    let mut zones = BTreeMap::new();
    for name in names(plan) {
        *zones.entry(name.chars().next().unwrap()).or_default() += 1;
    }
    zones
}

#[test]
fn a_limited_number_of_nodes_is_spread_over_the_zones() {
    let nodes = zoned(&[("a", 20), ("b", 20), ("c", 1)]);
    let web = annotated(&[("headstart.dev/max-nodes", "9")]);
    let forwards = plan_on(&web, &nodes);
    let spread = per_zone(&forwards);
    assert_eq!(spread, BTreeMap::from([('a', 4), ('b', 4), ('c', 1)]));
    assert_eq!(forwards.skipped.len(), 32);
    assert_eq!(forwards.skipped[0].1.reason(), "MaxNodes");
    assert_eq!(plan_on(&web, nodes.iter().rev()), forwards);

    let web = annotated(&[("headstart.dev/max-nodes", "10%")]);
    let share = plan_on(&web, &nodes);
    assert_eq!(share.nodes.len(), 5, "41 nodes, rounded up");
    let web = annotated(&[("headstart.dev/max-nodes", "50")]);
    let all = plan_on(&web, &nodes);
    assert_eq!(all.nodes.len(), 41);
}

#[test]
fn nodes_that_run_the_deployment_now_come_first() {
    let nodes = zoned(&[("a", 10), ("b", 10)]);
    let web = annotated(&[("headstart.dev/max-nodes", "4")]);
    let context = PlacementContext {
        running_on: ["a7", "a8", "a9", "gone"].map(str::to_owned).into(),
        ..PlacementContext::default()
    };
    let plan = plan(&web, &nodes, &context, &settings(None));
    let chosen = names(&plan);
    assert_eq!(chosen[..3], ["a7", "a8", "a9"]);
    assert!(
        chosen[3].starts_with('b'),
        "the zone without any comes next"
    );
}

#[test]
fn nodes_that_an_autoscaler_may_remove_are_chosen_last() {
    let soft = |name| {
        let taint =
            json!({"key": "DeletionCandidateOfClusterAutoscaler", "effect": "PreferNoSchedule"});
        node_with(name, &json!({"spec": {"taints": [taint]}}))
    };
    let nodes = [
        soft("a1"),
        node("a2", "True"),
        soft("a3"),
        node("a4", "True"),
    ];
    let context = PlacementContext {
        running_on: [String::from("a1")].into(),
        ..PlacementContext::default()
    };
    let web = annotated(&[("headstart.dev/max-nodes", "2")]);
    assert_eq!(
        names(&plan(&web, &nodes, &context, &settings(None))),
        ["a2", "a4"]
    );
    let all = annotated(&[]);
    assert_eq!(plan_on(&all, &nodes).nodes.len(), 4);
}

#[test]
fn a_node_that_goes_moves_no_other() {
    let nodes = zoned(&[("a", 30)]);
    let web = annotated(&[("headstart.dev/max-nodes", "10")]);
    let before = plan_on(&web, &nodes);
    let gone = names(&before)[0];
    let after = plan_on(&web, nodes.iter().filter(|node| node.name != gone));
    let kept = names(&after)
        .into_iter()
        .filter(|name| names(&before).contains(name));
    assert_eq!(kept.count(), 9);
}
