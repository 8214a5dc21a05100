//! `nodeSelector` and required node affinity, against `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`.

use headstart_core::scheduling::constraints::SchedulingConstraints;
use headstart_core::scheduling::node::NodeInfo;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::asking::{Answer, Kind};
use crate::text::one_of;

#[derive(Clone, Debug)]
struct Case {
    node: Value,
    spec: Value,
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => one_of(&["a", "b", "zone", "cpus"]),
        1 => one_of(&["-a", "", "a/b/c", "metadata.name", "a.io/b"]),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => one_of(&["a", "b", "1", "8", "16"]),
        1 => one_of(&["", "-1", "+8", "a b", "08", "9223372036854775808"]),
    ]
}

fn expression() -> impl Strategy<Value = Value> {
    let matching = (key(), one_of(&["In", "In", "NotIn"]), vec(value(), 1..3));
    let existing = (key(), one_of(&["Exists", "DoesNotExist"]), Just(Vec::new()));
    let comparing = (
        key(),
        one_of(&["Gt", "Lt"]),
        vec(one_of(&["0", "8", "9", "16", "x", "-1"]), 1..2),
    );
    let wrong = (
        key(),
        one_of(&["In", "Exists", "Gt", "Near", "", "in"]),
        vec(value(), 0..3),
    );
    prop_oneof![5 => matching, 3 => existing, 3 => comparing, 1 => wrong].prop_map(
        |(key, operator, values)| json!({"key": key, "operator": operator, "values": values}),
    )
}

fn field() -> impl Strategy<Value = Value> {
    let right = (
        Just("metadata.name".to_owned()),
        one_of(&["In", "NotIn"]),
        vec(one_of(&["n1", "n2"]), 1..2),
    );
    let wrong = (
        one_of(&["metadata.name", "metadata.namespace", ""]),
        one_of(&["In", "NotIn", "Exists", "Gt"]),
        vec(one_of(&["n1", ""]), 0..3),
    );
    prop_oneof![3 => right, 1 => wrong].prop_map(
        |(key, operator, values)| json!({"key": key, "operator": operator, "values": values}),
    )
}

fn term() -> impl Strategy<Value = Value> {
    let part = |of: BoxedStrategy<Value>| option::weighted(0.6, vec(of, 0..3));
    (part(expression().boxed()), part(field().boxed())).prop_map(
        |(expressions, fields)| json!({"matchExpressions": expressions, "matchFields": fields}),
    )
}

fn cases() -> impl Strategy<Value = Case> {
    let labels = btree_map(key(), value(), 0..5);
    let selector = option::weighted(0.2, btree_map(key(), value(), 0..2));
    let required = option::weighted(0.9, vec(term(), 0..4));
    let affinity = required.prop_map(|terms| {
        let required = terms.map(|terms| json!({"nodeSelectorTerms": terms}));
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}})
    });
    (
        one_of(&["n1", "n1", "n2", ""]),
        labels,
        selector,
        option::weighted(0.95, affinity),
    )
        .prop_map(|(name, labels, selector, affinity)| Case {
            node: json!({"metadata": {"name": name, "labels": labels}}),
            spec: json!({"containers": [], "nodeSelector": selector, "affinity": affinity}),
        })
}

#[test]
fn nodes_match_as_for_the_scheduler() {
    let kind = Kind {
        name: "node affinity",
        question: |case: &Case| json!({"affinity": {"node": case.node, "spec": case.spec}}),
        ours: |case| {
            let node = serde_json::from_value(case.node.clone()).expect("a node");
            let spec = serde_json::from_value(case.spec.clone()).expect("a pod spec");
            let node = NodeInfo::from_node(&node).expect("it has a name");
            Answer {
                matches: SchedulingConstraints::from_pod_spec(&spec)
                    .node_affinity_mismatch(&node)
                    .is_none(),
                ..Answer::default()
            }
        },
        is_yes: |answer| answer.matches,
    };
    kind.compare(&cases());
}
