//! Deployments, nodes and parts of pods that are mostly such as Kubernetes would have, with holes and nonsense.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Strings that mean something somewhere, and others.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let words = [
        "",
        "a",
        "web",
        "n1",
        "n2",
        "nginx",
        "nginx:1.27",
        "ghcr.io/a/b@sha256:0",
        "a b",
        "In",
        "NotIn",
        "Exists",
        "Gt",
        "Lt",
        "Equal",
        "NoSchedule",
        "NoExecute",
        "True",
        "False",
        "Ready",
        "DiskPressure",
        "PIDPressure",
        "metadata.name",
        "zone",
        "topology.kubernetes.io/zone",
        "kubernetes.io/os",
        "linux",
        "windows",
        "node.kubernetes.io/not-ready",
        "Always",
        "Never",
        "type",
        "virtual-kubelet",
        "50",
        "30%",
        "0",
        "-1",
        "110",
        "1e99",
        "9999999999999999999999",
        "5m",
        "zone in (a,b)",
        "((",
        "headstart.dev/max-nodes",
        "headstart.dev/node-selector",
        "headstart.dev/images",
        "headstart.dev/refresh",
        "headstart.dev/hold-until",
        "headstart.dev/hold-timeout",
        "headstart.dev/prefetch",
        "é\0\u{202e}",
        "v1.37.2",
        "containerd://2.4.2",
        "v..",
        "://",
        "image-0",
        "image-99999999999999999999",
        "ErrImagePull",
        "Failed",
        "https://u:p@h/?q",
        "2026-01-01T00:00:00Z",
    ];
    prop_oneof![
        12 => select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => (0_usize..400).prop_map(|length| "a.".repeat(length)),
    ]
}

/// Mostly such objects as Kubernetes would have, with holes.
fn maybe(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![8 => value, 1 => Just(Value::Null)]
}

/// Returns a strategy that rarely gives the value, for values that would leave nothing to plan.
fn rarely(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![1 => value, 6 => Just(Value::Null)]
}

fn string() -> impl Strategy<Value = Value> + Clone {
    text().prop_map(Value::from).boxed()
}

fn map() -> impl Strategy<Value = Value> {
    btree_map(text(), text(), 0..5).prop_map(|map| json!(map))
}

pub(crate) fn list(of: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    maybe(vec(of, 0..4).prop_map(Value::from))
}

/// An object with some of these fields.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let present = vec(prop::bool::weighted(0.75), fields.len());
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    (values, present)
        .prop_map(move |(values, present)| {
            let fields = names.iter().zip(values).zip(present);
            let kept = fields.filter(|(_, present)| *present);
            let object: Map<String, Value> = kept
                .map(|((name, value), _)| ((*name).to_owned(), value))
                .collect();
            Value::Object(object)
        })
        .boxed()
}

fn requirement() -> BoxedStrategy<Value> {
    object(vec![
        ("key", string().boxed()),
        ("operator", string().boxed()),
        ("values", list(string()).boxed()),
    ])
}

fn metadata() -> BoxedStrategy<Value> {
    object(vec![
        ("name", string().boxed()),
        ("namespace", string().boxed()),
        ("uid", string().boxed()),
        ("labels", maybe(map()).boxed()),
        ("annotations", maybe(map()).boxed()),
        (
            "deletionTimestamp",
            rarely(Just(json!("2026-01-01T00:00:00Z"))).boxed(),
        ),
        ("generation", any::<i64>().prop_map(Value::from).boxed()),
    ])
}

fn pod_spec() -> BoxedStrategy<Value> {
    let container = || {
        object(vec![
            ("name", string().boxed()),
            ("image", string().boxed()),
            ("imagePullPolicy", string().boxed()),
        ])
    };
    let term = object(vec![
        ("matchExpressions", list(requirement()).boxed()),
        ("matchFields", list(requirement()).boxed()),
    ]);
    let toleration = object(vec![
        ("key", string().boxed()),
        ("operator", string().boxed()),
        ("value", string().boxed()),
        ("effect", string().boxed()),
        (
            "tolerationSeconds",
            any::<i64>().prop_map(Value::from).boxed(),
        ),
    ]);
    let volume = string().prop_map(|image| json!({"name": "v", "image": {"reference": image}}));
    let affinity = list(term).prop_map(|terms| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
    });
    object(vec![
        ("containers", list(container()).boxed()),
        ("initContainers", list(container()).boxed()),
        ("volumes", list(volume).boxed()),
        ("affinity", rarely(affinity).boxed()),
        ("tolerations", list(toleration).boxed()),
        ("nodeSelector", rarely(map()).boxed()),
        ("nodeName", rarely(string()).boxed()),
        (
            "os",
            rarely(object(vec![("name", string().boxed())])).boxed(),
        ),
        ("runtimeClassName", string().boxed()),
        ("serviceAccountName", string().boxed()),
        (
            "imagePullSecrets",
            list(object(vec![("name", string().boxed())])).boxed(),
        ),
    ])
}

pub(crate) fn deployments() -> impl Strategy<Value = Value> {
    let selector = object(vec![
        ("matchLabels", maybe(map()).boxed()),
        ("matchExpressions", list(requirement()).boxed()),
    ]);
    (metadata(), selector, pod_spec()).prop_map(|(metadata, selector, spec)| {
        json!({"metadata": metadata, "spec": {"selector": selector, "template": {"spec": spec}}})
    })
}

pub(crate) fn condition() -> BoxedStrategy<Value> {
    object(vec![
        ("type", string().boxed()),
        ("status", string().boxed()),
        ("reason", string().boxed()),
        ("message", string().boxed()),
    ])
}

pub(crate) fn nodes() -> impl Strategy<Value = Value> {
    let taint = object(vec![
        ("key", string().boxed()),
        ("value", string().boxed()),
        ("effect", string().boxed()),
    ]);
    let ready = vec(condition(), 0..3).prop_map(|mut conditions| {
        conditions.push(json!({"type": "Ready", "status": "True"}));
        Value::from(conditions)
    });
    let os = select(vec!["", "linux", "linux", "linux", "windows"]);
    let info = (text(), text(), os).prop_map(|(kubelet, runtime, os)| {
        json!({
            "architecture": "", "bootID": "", "containerRuntimeVersion": runtime, "kernelVersion": "", "kubeProxyVersion": "",
            "kubeletVersion": kubelet, "machineID": "", "operatingSystem": os, "osImage": "", "systemUUID": "",
        })
    });
    let status = object(vec![
        (
            "conditions",
            prop_oneof![3 => ready.boxed(), 1 => list(condition()).boxed()].boxed(),
        ),
        ("allocatable", maybe(map()).boxed()),
        ("nodeInfo", info.boxed()),
    ]);
    let spec = object(vec![
        ("taints", rarely(list(taint)).boxed()),
        (
            "unschedulable",
            prop::bool::weighted(0.1).prop_map(Value::from).boxed(),
        ),
    ]);
    (metadata(), spec, status).prop_map(
        |(metadata, spec, status)| json!({"metadata": metadata, "spec": spec, "status": status}),
    )
}
