//! Measures the time of a plan: it grows in proportion to the nodes, and 5,000 nodes take at most 50 ms.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use headstart_core::plan::{PlacementContext, plan};
use headstart_core::pod::PodSettings;
use headstart_core::scheduling::node::NodeInfo;
use headstart_core::workload::Workload;
use serde_json::{Value, json};

const SIZES: [usize; 3] = [100, 1_000, 5_000];

/// A node as a cloud provider's look: some twenty labels, a taint on each fourth.
fn node(index: usize) -> NodeInfo {
    let pool = ["web", "db", "batch"][index % 3];
    let zone = ["a", "b", "c"][index % 3];
    let mut labels = json!({
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": format!("ip-10-0-{}-{}.eu-central-1.compute.internal", index / 256, index % 256),
        "topology.kubernetes.io/zone": format!("eu-central-1{zone}"),
        "topology.kubernetes.io/region": "eu-central-1",
        "node.kubernetes.io/instance-type": "m7i.2xlarge",
        "pool": pool,
        "cpus": "8",
    });
    for extra in 0..12 {
        labels[format!("example.com/label-{extra}")] = format!("value-{}", index % 7).into();
    }
    let taints = match index % 4 {
        0 => json!([{"key": "dedicated", "value": "batch", "effect": "NoSchedule"}]),
        _ => Value::Null,
    };
    let node = json!({
        "metadata": {"name": format!("ip-10-0-{}-{}.eu-central-1.compute.internal", index / 256, index % 256), "labels": labels},
        "spec": {"taints": taints},
        "status": {
            "allocatable": {"pods": "110"},
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "DiskPressure", "status": "False"},
                {"type": "Ready", "status": if index.is_multiple_of(50) { "False" } else { "True" }},
            ],
            "nodeInfo": {
                "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "containerd://2.1.4", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "v1.37.2", "machineID": "", "operatingSystem": "linux", "osImage": "",
                "systemUUID": "",
            },
        },
    });
    let node = serde_json::from_value(node).expect("a node");
    NodeInfo::from_node(&node).expect("it has a name")
}

fn workload(annotations: &Value) -> Workload {
    let deployment = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "1", "annotations": annotations},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {
            "containers": [{"name": "web", "image": "nginx:1.27"}, {"name": "proxy", "image": "envoyproxy/envoy:v1.35"}],
            "tolerations": [
                {"key": "gpu", "operator": "Exists"},
                {"key": "dedicated", "operator": "Equal", "value": "web"},
            ],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [
                    {"key": "pool", "operator": "In", "values": ["web", "api"]},
                    {"key": "cpus", "operator": "Gt", "values": ["4"]},
                ]},
                {"matchExpressions": [{"key": "example.com/label-3", "operator": "In", "values": ["value-1", "value-2"]}]},
            ]}}},
        }}},
    });
    let deployment = serde_json::from_value(deployment).expect("a Deployment");
    Workload::from_deployment(&deployment).expect("it has a name")
}

fn planning(criterion: &mut Criterion) {
    let settings = PodSettings::new("headstart:v1");
    let kinds = [
        ("everywhere", workload(&Value::Null)),
        (
            "limited",
            workload(&json!({
                "headstart.dev/node-selector": "kubernetes.io/arch in (amd64,arm64),!gpu",
                "headstart.dev/max-nodes": "30%",
            })),
        ),
    ];
    for (kind, web) in &kinds {
        let mut group = criterion.benchmark_group(format!("plan/{kind}"));
        for size in SIZES {
            let nodes: Vec<NodeInfo> = (0..size).map(node).collect();
            let context = PlacementContext {
                running_on: nodes
                    .iter()
                    .step_by(10)
                    .map(|node| node.name.clone())
                    .collect(),
                ..PlacementContext::default()
            };
            group.throughput(Throughput::Elements(size as u64));
            group.bench_with_input(
                BenchmarkId::from_parameter(size),
                &nodes,
                |bencher, nodes| {
                    bencher.iter(|| plan(black_box(web), black_box(nodes), &context, &settings));
                },
            );
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    // Enough for a median that stays; the whole takes half a minute.
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = planning
}
criterion_main!(benches);
