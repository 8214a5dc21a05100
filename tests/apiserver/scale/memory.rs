//! What it takes to know a large cluster.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use kube::api::PostParams;
use serde_json::{Value, json};
use testbed::control_plane::Options;
use testbed::headstart::{Local, Profile};
use testbed::process::Wait;
use testbed::{ControlPlane, FakeNodes};

use crate::machine;
use crate::scale::cluster::{is_long, status_mib};

/// What a process takes that knows nothing yet, and what reading takes in passing.
const BASE_MIB: f64 = 24.0;
/// The goal for 5,000 nodes and 10,000 Deployments.
const GOAL_MIB: f64 = 64.0;
/// The share of a core that it may take there while nothing happens.
const IDLE_GOAL: f64 = 0.01;
/// Less is measured in the short form, in a shorter time: what the machine's other work adds counts for more.
const IDLE_BOUND: f64 = 0.02;
/// In which each fake node writes its status once, as a kubelet does about every five minutes.
const HEARTBEATS: Duration = Duration::from_secs(310);
/// How long a cluster of that size may take to be done with its Deployments, on a machine that does other things.
const SETTLED: Duration = Duration::from_secs(900);

/// A Deployment as Helm charts make them: some six kilobytes. Paused, so that the Deployment controller is done with it
/// after one write.
fn deployment(number: usize) -> Value {
    let name = format!("service-{number}");
    let env: Vec<Value> = (0..40)
        .map(|n| json!({ "name": format!("SETTING_{n}"), "value": format!("a value of ordinary length, {n}") }))
        .collect();
    let labels = json!({
        "app.kubernetes.io/name": name, "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "service-1.2.3",
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": "default", "labels": labels },
        "spec": {
            "replicas": 0,
            "paused": true,
            "selector": { "matchLabels": { "app.kubernetes.io/name": name } },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "nodeSelector": { "kubernetes.io/os": "linux" },
                    "initContainers": [{ "name": "migrate", "image": format!("registry.example.com/acme/{name}:v1"), "env": env }],
                    "containers": [
                        { "name": "app", "image": format!("registry.example.com/acme/{name}:v1"), "env": env,
                          "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
                          "readinessProbe": { "httpGet": { "path": "/ready", "port": 8080 } } },
                        { "name": "proxy", "image": "registry.example.com/mesh/proxy:v9", "env": env },
                    ],
                },
            },
        },
    })
}

/// How many events of a watch it has seen.
async fn events(headstart: &Local, resource: &str) -> u64 {
    let metrics = headstart.get("/metrics").await.unwrap();
    let name = format!("headstart_watch_events_total{{resource=\"{resource}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or("0").parse().unwrap()
}

/// CPU time used so far.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // USER_HZ is 100 on every Linux that Rust supports.
    Duration::from_millis(ticks * 10)
}

/// Of its own: it is larger than the others' cluster, and has nothing else in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_cluster_fits_into_little_memory() {
    let _machine = machine().await;
    let (nodes, deployments) = if is_long() {
        (5000, 10_000)
    } else {
        (1000, 2000)
    };
    let share = f64::from(u32::try_from(deployments).unwrap()) / 10_000.0;
    let bound = BASE_MIB + (GOAL_MIB - BASE_MIB) * share;
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let fake = FakeNodes {
        count: nodes,
        ..FakeNodes::default()
    };
    plane.add_fake_nodes(fake, |_, _| {}).await.unwrap();
    let api: kube::Api<k8s_openapi::api::apps::v1::Deployment> =
        kube::Api::namespaced(plane.client().unwrap(), "default");
    stream::iter(0..deployments)
        .map(|number| {
            let (api, object) = (&api, serde_json::from_value(deployment(number)).unwrap());
            async move { api.create(&PostParams::default(), &object).await.unwrap() }
        })
        .buffer_unordered(32)
        .for_each(async |_| {})
        .await;

    let begun = Instant::now();
    // An optimised binary: a debug build says nothing of memory.
    let headstart = Local::start(&plane, Profile::Ci, &[]).await.unwrap();
    eprintln!(
        "ready within {:.1} s, with its installation",
        begun.elapsed().as_secs_f64()
    );
    let pid = headstart.process().id().unwrap();
    // Nothing happens: the Deployment controller has caught up.
    let wait = Wait::new("the Deployments' controller to be done", SETTLED);
    let mut before = events(&headstart, "Deployments").await;
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = events(&headstart, "Deployments").await;
        if now == before {
            break;
        }
        before = now;
        wait.pause().await.unwrap();
    }
    let heartbeats = events(&headstart, "Nodes").await;
    let (before, since) = (cpu(pid), Instant::now());
    let window = if is_long() {
        HEARTBEATS
    } else {
        Duration::from_secs(12)
    };
    tokio::time::sleep(window).await;
    let idle = (cpu(pid) - before).as_secs_f64() / since.elapsed().as_secs_f64();
    let heartbeats = events(&headstart, "Nodes").await - heartbeats;
    let (now, peak) = (status_mib(pid, "VmRSS:"), status_mib(pid, "VmHWM:"));
    eprintln!(
        "{nodes} nodes and {deployments} Deployments: {now:.1} MiB, at most {peak:.1} MiB, of {bound:.1}; idle {:.2} % of a core, with {heartbeats} heartbeats of nodes in {} s",
        idle * 100.0,
        window.as_secs()
    );
    assert!(peak < bound, "{peak} MiB at most");
    let most = if is_long() { IDLE_GOAL } else { IDLE_BOUND };
    assert!(idle < most, "{idle} of a core, of {most}");
}
