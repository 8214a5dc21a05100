//! Objects that a user who may edit one namespace can store: up to 1.5 MiB each, which all replicas read.

use std::sync::Arc;

use headstart_core::hold::is_paused_by_user;
use headstart_core::limits::{KEPT_BYTES, POD_BYTES};
use headstart_core::pod::{PodSettings, prefetch_pod};
use headstart_core::scheduling::node::PullMethod;
use headstart_core::workload::Workload;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use crate::{KIB, MIB, kept, list, peak, turn};

/// Etcd takes no larger object.
const LARGEST: usize = 3 * MIB / 2;

/// About each limit, and far beyond.
const SIZES: [usize; 20] = [
    0,
    100,
    500,
    KIB,
    2 * KIB,
    3 * KIB,
    4 * KIB,
    5 * KIB,
    6 * KIB,
    7 * KIB,
    8 * KIB,
    10 * KIB,
    12 * KIB,
    14 * KIB,
    15 * KIB,
    16 * KIB,
    20 * KIB,
    64 * KIB,
    400 * KIB,
    LARGEST,
];

/// A change of an ordinary Deployment that brings about so many bytes.
type Shape = fn(usize) -> Value;

fn annotation(name: &str, value: String) -> Value {
    json!({"metadata": {"annotations": {format!("headstart.dev/{name}"): value}}})
}

fn pod(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

fn items(bytes: usize, each: usize, item: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..bytes / each).map(item).collect()
}

fn labels(bytes: usize) -> Value {
    let entries = (0..bytes / 20).map(|i| (format!("label-{i:08}"), json!("value")));
    Value::Object(entries.collect())
}

fn terms(terms: usize, conditions: usize, values: Vec<String>) -> Value {
    let condition = json!({"key": "zone", "operator": "In", "values": values});
    let term = json!({"matchExpressions": vec![condition; conditions]});
    json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": vec![term; terms]},
    }}})
}

const SHAPES: &[(&str, Shape)] = &[
    ("a selector of many conditions", |n| {
        annotation("node-selector", list(n, |i| format!("a{i}=b")))
    }),
    ("a selector of many values", |n| {
        annotation(
            "node-selector",
            format!("a in ({})", list(n, |i| i.to_string())),
        )
    }),
    ("a list of images", |n| {
        annotation("images", list(n, |i| format!("team/app-{i}:v{i}")))
    }),
    ("a list of images that are written in full", |n| {
        annotation(
            "images",
            list(n, |i| format!("registry.example/team-{i}/app:v{i}")),
        )
    }),
    ("annotations that cannot be read", |n| {
        let value = "\u{1}".repeat(n);
        json!({"metadata": {"annotations": {
            "headstart.dev/node-selector": value, "headstart.dev/max-nodes": value, "headstart.dev/refresh": value,
            "headstart.dev/images": value, "headstart.dev/hold-timeout": value, "headstart.dev/hold-until": value,
        }, "labels": {"headstart.dev/prefetch": value}}})
    }),
    ("many images", |n| {
        pod(
            json!({"containers": items(n, 30, |i| json!({"name": "c", "image": format!("app-{i:016}:v1")}))}),
        )
    }),
    ("long images", |n| {
        pod(
            json!({"containers": items(n, 300, |i| json!({"name": "c", "image": format!("{}a:{i}", "a/".repeat(110))}))}),
        )
    }),
    ("many bad images", |n| {
        pod(
            json!({"containers": items(n, 30, |i| json!({"name": "c", "image": format!("Not Valid {i:016}")}))}),
        )
    }),
    ("long bad images", |n| {
        pod(
            json!({"containers": items(n, 900, |i| json!({"name": "c", "image": format!("!{}{i}", "é".repeat(440))}))}),
        )
    }),
    ("one long image", |n| {
        pod(json!({"containers": [{"name": "c", "image": "a".repeat(n)}]}))
    }),
    ("many tolerations", |n| {
        pod(
            json!({"tolerations": items(n, 30, |i| json!({"key": format!("k{i}"), "operator": "Exists"}))}),
        )
    }),
    ("long tolerations", |n| {
        pod(json!({"tolerations": [{"key": "k".repeat(n), "value": "v".repeat(n)}]}))
    }),
    ("many pull secrets", |n| {
        pod(json!({"imagePullSecrets": items(n, 15, |i| json!({"name": format!("s{i}")}))}))
    }),
    ("long pull secrets", |n| {
        pod(json!({"imagePullSecrets": [{"name": "s".repeat(n)}]}))
    }),
    ("an affinity of many terms", |n| {
        pod(terms(n / 60, 1, vec!["a".into()]))
    }),
    ("an affinity of many conditions", |n| {
        pod(terms(1, n / 60, vec!["a".into()]))
    }),
    ("an affinity of many values", |n| {
        pod(terms(
            1,
            1,
            (0..n / 10).map(|i| format!("value-{i}")).collect(),
        ))
    }),
    ("an affinity of all that is read", |_| {
        pod(terms(32, 32, vec!["value".into(); 64]))
    }),
    ("an affinity that cannot match", |n| {
        pod(terms(1, 1, vec!["!".repeat(n)]))
    }),
    ("an affinity by long fields", |n| {
        pod(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [{"key": "f".repeat(n), "operator": "In", "values": ["v".repeat(n)]}]}],
            }}}}),
        )
    }),
    ("a node selector", |n| {
        pod(json!({"nodeSelector": labels(n)}))
    }),
    (
        "a selector of pods",
        |n| json!({"spec": {"selector": {"matchLabels": labels(n)}}, "metadata": {"annotations": {"headstart.dev/max-nodes": "3"}}}),
    ),
    ("long names", |n| {
        let name = "n".repeat(n / 4);
        pod(
            json!({"nodeName": name, "serviceAccountName": name, "runtimeClassName": name, "os": {"name": name}}),
        )
    }),
    ("a bit of everything", |n| {
        let mut all = pod(terms(4, 2, vec!["value".into(); n / 400]));
        for part in [
            pod(json!({"nodeSelector": labels(n / 8)})),
            pod(
                json!({"containers": items(n / 4, 40, |i| json!({"name": "c", "image": format!("app-{i:016}:v1")}))}),
            ),
            pod(
                json!({"initContainers": items(n / 4, 40, |i| json!({"name": "c", "image": format!("Not Valid {i:016}")}))}),
            ),
            annotation("node-selector", list(n / 8, |i| format!("a{i}"))),
            annotation("refresh", "\u{1}".repeat(n / 8)),
        ] {
            json_patch::merge(&mut all, &part);
        }
        all
    }),
];

fn stored(change: &Value) -> Deployment {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "705ab4f5-6393-11e8-b7cc-42010a800002"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}}},
    });
    json_patch::merge(&mut object, change);
    serde_json::from_value(object).expect("a Deployment")
}

#[test]
fn no_deployment_keeps_more_than_the_limit() {
    let _turn = turn();
    let settings = PodSettings {
        priority_class: Some("headstart-prefetch".into()),
        ..PodSettings::new("registry.example/headstart:v0.1.0")
    };
    for (name, shape) in SHAPES {
        let (mut whole, mut largest, mut largest_pod) = (0, 0, 0);
        for bytes in SIZES {
            let deployment = stored(&shape(bytes));
            let (workload, kept) = kept(|| Workload::from_deployment(&deployment).map(Arc::new));
            let workload = workload.unwrap();
            assert!(kept <= KEPT_BYTES, "{name} of {bytes} bytes keeps {kept}");
            if workload.too_large.is_none() {
                (whole, largest) = (whole + 1, largest.max(kept));
            } else {
                assert!(kept <= 2 * KIB, "{name} of {bytes} bytes keeps {kept}");
                assert_eq!(workload.uid, deployment.metadata.uid.unwrap());
            }
            for method in [PullMethod::ImageVolume, PullMethod::Container] {
                let pod = prefetch_pod(&workload, "node-1", method, &settings);
                let pod = serde_json::to_vec(&pod).unwrap().len();
                assert!(pod <= POD_BYTES, "{name} of {bytes} bytes: a pod of {pod}");
                largest_pod = largest_pod.max(pod);
            }
        }
        println!(
            "{name}: {whole} of {} read whole, at most {largest} bytes kept, {largest_pod} in a pod",
            SIZES.len()
        );
    }
}

/// kubectl's copy of a manifest is read when a hold ends, and may be anything.
#[test]
fn what_was_last_applied_is_not_read_whole() {
    let _turn = turn();
    let containers = list(250 * KIB, |_| "{}".into());
    let applied = format!(
        r#"{{"metadata":{{}},"spec":{{"paused":true,"template":{{"spec":{{"containers":[{containers}]}}}}}}}}"#
    );
    let deployment = stored(&json!({"metadata": {"annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": applied,
    }}}));
    assert!(is_paused_by_user(&deployment));
    let taken = peak(|| is_paused_by_user(&deployment));
    assert!(taken <= 4 * KIB, "{taken} bytes");
}
