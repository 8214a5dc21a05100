//! Resources of an empty node, against the scheduler's NodeResourcesFit plugin.

use headstart_core::scheduling::filter_options::IgnoredResources;
use headstart_core::scheduling::resources::Resources;
use k8s_openapi::api::core::v1::{Node, PodSpec};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::asking::{Answer, Kind};
use crate::text::one_of;

#[derive(Clone, Debug)]
struct Case {
    allocatable: Value,
    spec: Value,
}

/// An amount of CPU.
fn cores() -> impl Strategy<Value = String> {
    one_of(&[
        "0", "1m", "250m", "500m", "0.5", "1", "1.5", "2", "1500001u", "2k",
    ])
}

/// An amount of bytes.
fn bytes() -> impl Strategy<Value = String> {
    one_of(&[
        "0",
        "1",
        "64Mi",
        "128974848",
        "129e6",
        "129M",
        "1Gi",
        "1.5Gi",
        "0.5Ki",
        "1500m",
        "2Gi",
        "1Ti",
    ])
}

/// A number of devices.
fn devices() -> impl Strategy<Value = String> {
    one_of(&["0", "1", "2", "8"])
}

/// Resources as one container asks for them.
fn resources() -> impl Strategy<Value = Value> {
    let overcommitted = || {
        (
            option::weighted(0.5, cores()),
            option::weighted(0.5, bytes()),
            option::weighted(0.1, bytes()),
        )
            .prop_map(|(cpu, memory, storage)| json!({"cpu": cpu, "memory": memory, "ephemeral-storage": storage}))
    };
    // Of these the API server wants equal requests and limits.
    let name = one_of(&["nvidia.com/gpu", "example.com/a", "hugepages-2Mi"]);
    let devices = btree_map(name, devices(), 0..2);
    (overcommitted(), overcommitted(), devices).prop_map(|(requests, mut limits, devices)| {
        for (name, amount) in devices {
            limits[name] = amount.into();
        }
        json!({"requests": without_null(requests), "limits": without_null(limits)})
    })
}

fn without_null(mut object: Value) -> Value {
    let fields = object.as_object_mut().expect("an object");
    fields.retain(|_, value| !value.is_null());
    object
}

fn container() -> impl Strategy<Value = Value> {
    (resources(), option::weighted(0.4, Just("Always"))).prop_map(
        |(resources, policy)| json!({"name": "c", "resources": resources, "restartPolicy": policy}),
    )
}

fn of_pod() -> impl Strategy<Value = Value> {
    let amounts = || {
        (option::of(cores()), option::of(bytes()))
            .prop_map(|(cpu, memory)| without_null(json!({"cpu": cpu, "memory": memory})))
    };
    (option::of(amounts()), option::of(amounts()))
        .prop_map(|(requests, limits)| json!({"requests": requests, "limits": limits}))
}

fn cases() -> impl Strategy<Value = Case> {
    let containers = vec(resources(), 1..4).prop_map(|all| {
        let all = all.into_iter();
        let all = all.map(|resources| json!({"name": "c", "resources": resources}));
        Value::from(all.collect::<Vec<_>>())
    });
    let overhead =
        (cores(), bytes()).prop_map(|(cpu, memory)| json!({"cpu": cpu, "memory": memory}));
    let spec = (
        containers,
        vec(container(), 0..4),
        option::weighted(0.2, overhead),
        option::weighted(0.2, of_pod()),
    )
        .prop_map(|(containers, init, overhead, of_pod)| {
            json!({"containers": containers, "initContainers": init, "overhead": overhead, "resources": of_pod})
        });
    let more = one_of(&[
        "nvidia.com/gpu",
        "example.com/a",
        "hugepages-2Mi",
        "attachable-volumes-x",
        "other",
    ]);
    let allocatable = (
        option::weighted(0.95, one_of(&["2", "4", "3920m", "8000m"])),
        option::weighted(0.95, one_of(&["2Gi", "4Gi", "3Gi", "2Ti"])),
        option::weighted(0.9, one_of(&["2Gi", "2Ti"])),
        btree_map(more, devices(), 0..5),
    )
        .prop_map(|(cpu, memory, storage, more)| {
            let all =
                json!({"pods": "110", "cpu": cpu, "memory": memory, "ephemeral-storage": storage});
            let mut all = without_null(all);
            for (name, amount) in more {
                all[name] = amount.into();
            }
            all
        });
    (allocatable, spec).prop_map(|(allocatable, spec)| Case { allocatable, spec })
}

fn ours(case: &Case) -> Answer {
    let spec: PodSpec = serde_json::from_value(case.spec.clone()).expect("a pod spec");
    let node: Node = serde_json::from_value(node(case)).expect("a node");
    let allocatable = node.status.and_then(|status| status.allocatable);
    let allocatable = Resources::allocatable(&allocatable.expect("it is given"));
    let requested = Resources::requested(&spec);
    let ignored = IgnoredResources::default();
    let missing = requested.insufficient(&allocatable, &ignored);
    let mut readings: Vec<String> = missing
        .map(|missing| {
            format!(
                "{} {} {}",
                missing.resource, missing.requested, missing.allocatable
            )
        })
        .collect();
    readings.sort_unstable();
    Answer {
        matches: readings.is_empty(),
        readings,
        ..Answer::default()
    }
}

fn node(case: &Case) -> Value {
    json!({"metadata": {"name": "n1"}, "status": {"allocatable": case.allocatable}})
}

#[test]
fn an_empty_node_has_room_as_for_the_scheduler() {
    let kind = Kind {
        name: "resources",
        question: |case: &Case| json!({"fit": {"node": node(case), "spec": case.spec}}),
        ours,
        is_yes: |answer| answer.matches,
    };
    kind.compare(&cases());
}
