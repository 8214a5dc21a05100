//! What holds of planning for every Deployment and every node that deserialises.

use headstart::domain::node::Candidate;
use headstart::domain::outcome;
use headstart::domain::plan::{Plan, Situation, plan};
use headstart::domain::pod::{Pin, PodSettings, prefetch_pod};
use headstart::domain::workload::Workload;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use serde_json::{Map, Value, json};

/// Strings that mean something somewhere, and others.
fn text() -> impl Strategy<Value = String> {
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

/// What would otherwise leave nothing to plan.
fn rarely(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![1 => value, 6 => Just(Value::Null)]
}

fn string() -> impl Strategy<Value = Value> + Clone {
    text().prop_map(Value::from).boxed()
}

fn map() -> impl Strategy<Value = Value> {
    btree_map(text(), text(), 0..5).prop_map(|map| json!(map))
}

fn list(of: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
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

fn deployments() -> impl Strategy<Value = Value> {
    let selector = object(vec![
        ("matchLabels", maybe(map()).boxed()),
        ("matchExpressions", list(requirement()).boxed()),
    ]);
    (metadata(), selector, pod_spec()).prop_map(|(metadata, selector, spec)| {
        json!({"metadata": metadata, "spec": {"selector": selector, "template": {"spec": spec}}})
    })
}

fn condition() -> BoxedStrategy<Value> {
    object(vec![
        ("type", string().boxed()),
        ("status", string().boxed()),
        ("reason", string().boxed()),
        ("message", string().boxed()),
    ])
}

fn nodes() -> impl Strategy<Value = Value> {
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

fn settings(pin: Pin) -> PodSettings {
    PodSettings {
        noop_image: "headstart:v1".into(),
        method: None,
        pin,
        priority_class: None,
        deadline_seconds: 60,
    }
}

/// Those that deserialise.
fn read<T: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<T> {
    let values = values.iter().cloned();
    values
        .filter_map(|value| serde_json::from_value(value).ok())
        .collect()
}

fn candidates(nodes: &[Value]) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = read::<Node>(nodes)
        .iter()
        .filter_map(Candidate::from_node)
        .collect();
    // In a cluster no two have one name.
    candidates.sort_by(|a, b| a.name.cmp(&b.name));
    candidates.dedup_by(|a, b| a.name == b.name);
    candidates
}

/// So many cases meet each way through several times; PROPTEST_CASES asks for others.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if told { default.cases } else { 1_000 },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_node_is_planned_or_skipped_once_in_whatever_order_they_come(
        (deployment, nodes, shuffled, running) in (deployments(), vec(nodes(), 0..8)).prop_flat_map(|(deployment, nodes)| {
            let candidates = candidates(&nodes);
            (Just(deployment), Just(candidates.clone()), Just(candidates).prop_shuffle(), vec(text(), 0..3))
        })
    ) {
        let Some(workload) = serde_json::from_value::<Deployment>(deployment)
            .ok()
            .and_then(|deployment| Workload::from_deployment(&deployment))
        else {
            return Ok(());
        };
        let situation = Situation {
            running_on: running.iter().cloned().collect(),
            pods_on: running.into_iter().map(|node| (node, 100)).collect(),
        };
        let planned = plan(&workload, &nodes, &situation, &settings(Pin::NodeName));
        prop_assert_eq!(&plan(&workload, &shuffled, &situation, &settings(Pin::NodeName)), &planned);
        let Plan { targets, skipped } = &planned;
        if !workload.images.is_empty() {
            let mut names: Vec<&String> = targets.iter().map(|(name, _)| name)
                .chain(skipped.iter().map(|(name, _)| name)).collect();
            names.sort();
            let all: Vec<&String> = nodes.iter().map(|node| &node.name).collect();
            prop_assert_eq!(names, all);
        }
        for (_, why) in skipped {
            prop_assert!(why.reason().chars().all(char::is_alphanumeric));
            prop_assert!(!why.to_string().is_empty());
        }
        for (index, (node, method)) in targets.iter().enumerate() {
            let pin = if index % 2 == 0 { Pin::NodeName } else { Pin::Affinity };
            let pod = prefetch_pod(&workload, node, *method, &settings(pin));
            prop_assert!(pod.metadata.name.is_some_and(|name| name.len() <= 63));
            prop_assert_eq!(pod.spec.map(|spec| spec.containers.len()), Some(workload.images.len()));
        }
    }

    #[test]
    fn every_status_of_a_pod_means_something(
        phase in text(), reason in text(), message in text(), own in text(),
        conditions in list(condition()),
        statuses in vec((text(), text(), text(), text()), 0..4),
    ) {
        let statuses: Vec<Value> = statuses.iter().map(|(name, reason, message, id)| json!({
            "name": name, "image": "", "imageID": id, "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        })).collect();
        let pod = json!({
            "spec": {"containers": [{"name": "image-0"}, {"name": "image-1"}]},
            "status": {
                "phase": phase, "reason": reason, "message": message, "conditions": conditions,
                "containerStatuses": statuses, "initContainerStatuses": statuses,
            },
        });
        if let Ok(pod) = serde_json::from_value::<Pod>(pod) {
            let outcome = outcome::read(&pod, &own);
            prop_assert_eq!(outcome.images.len(), 2);
            prop_assert!(!outcome.is_warm(), "nothing here proves a pull of both");
        }
    }
}

/// The properties above are worth nothing if hardly anything deserialises or is ever planned.
#[test]
fn the_generators_reach_what_they_are_for() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut workloads, mut targets, mut reasons) = (0, 0, std::collections::BTreeSet::new());
    for _ in 0..300 {
        let strategy = (deployments(), vec(nodes(), 1..8));
        let (deployment, nodes) = strategy.new_tree(&mut runner).unwrap().current();
        let Some(deployment) = read::<Deployment>(&[deployment]).pop() else {
            continue;
        };
        let Some(workload) = Workload::from_deployment(&deployment) else {
            continue;
        };
        workloads += 1;
        let nodes = candidates(&nodes);
        let plan = plan(
            &workload,
            &nodes,
            &Situation::default(),
            &settings(Pin::NodeName),
        );
        targets += plan.targets.len();
        reasons.extend(plan.skipped.iter().map(|(_, why)| why.reason()));
    }
    assert!(
        workloads > 100 && targets > 30,
        "{workloads} workloads, {targets} targets"
    );
    assert!(reasons.len() >= 8, "{reasons:?}");
}
