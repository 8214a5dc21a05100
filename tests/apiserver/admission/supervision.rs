//! A replica whose task fails, and replicas whose control plane goes away.

use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::json;
use testbed::control_plane::Options;
use testbed::harness::{self, length};
use testbed::headstart::Local;
use testbed::process::Wait;
use testbed::{Component, ControlPlane, FakeNodes};

use crate::FEW_NODES;
use crate::admission::client;
use crate::admission::installation::{Installation, PATIENCE, SHOP, until};
use crate::admission::replica::Replica;

/// The essential tasks of a replica that signs its own certificate.
const TASKS: [&str; 13] = [
    "log",
    "probe server",
    "watch of Namespaces",
    "watch of Deployments",
    "watch of Pods",
    "watch of Nodes",
    "CA injector",
    "CA controller",
    "event recorder",
    "self-test",
    "readiness",
    "webhook server",
    "controller",
];
/// How many replicas start at once.
const AT_ONCE: usize = 5;
/// Of the lease, whose end the standby waits for. Its holder cannot give it up.
const ELECTION: &str = "leader election";
/// From when the API server is back.
const READY_LIMIT: Duration = Duration::from_secs(15);
/// From the write of a Deployment after etcd was restored.
const PREFETCH_LIMIT: Duration = Duration::from_secs(60);

/// The binary that `cargo test` built, in which this task panics at SIGUSR2.
fn panics(task: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headstart"));
    command.env("HEADSTART_PANIC_TASK", task);
    command
}

/// Waits until one of these replicas leads; which.
async fn leader_of(replicas: &[(&str, Replica)]) -> usize {
    let wait = Wait::new("a replica to lead", PATIENCE);
    loop {
        for (index, (task, replica)) in replicas.iter().enumerate() {
            assert!(replica.runs(), "{task}: {}", replica.log());
            if replica.leads().await {
                return index;
            }
        }
        wait.pause().await.unwrap();
    }
}

#[tokio::test]
async fn an_essential_task_that_panics_ends_its_replica_and_another_leads() {
    let installation = Installation::new().await;
    let tasks: Vec<&str> = TASKS.into_iter().chain([ELECTION]).collect();
    let mut replicas: Vec<(&str, Replica)> = Vec::new();
    for next in tasks.chunks(AT_ONCE).chain([&["none"][..]]) {
        let started = next.iter().map(|task| {
            let replica = installation.replica_by(panics(task), "replica", &[]);
            (*task, replica)
        });
        replicas.extend(started);
        for (_, replica) in &replicas {
            replica.ready().await;
        }
        // The one that is left leads when the next are started, and is the first of them to end.
        while replicas.len() > 1 {
            let (task, leader) = replicas.swap_remove(leader_of(&replicas).await);
            leader.signal("-USR2").await;
            let status = leader.ended().await;
            let log = leader.log();
            assert_eq!(status.code(), Some(1), "{status}: {log}");
            let error = format!("headstart: the {task} panicked: HEADSTART_PANIC_TASK says so");
            assert!(log.contains(&error), "{log}");
            let begun = Instant::now();
            let next = leader_of(&replicas).await;
            println!("{task}: another leads after {:?}", begun.elapsed());
            assert!(replicas[next].1.is_ready().await);
        }
    }
    assert_eq!(replicas[0].0, "none", "each of the others has ended");
}

async fn is_live(replica: &Replica) -> bool {
    let answer = client::plain_get(replica.probes, "/livez").await;
    answer.is_ok_and(|(status, _)| status == 200)
}

#[tokio::test]
async fn replicas_that_start_without_an_api_server_are_ready_soon_after_it_is_back() {
    let installation = Installation::new().await;
    let start = || installation.replica("replica", &[]);
    let running = [start(), start()];
    for replica in &running {
        replica.ready().await;
    }
    installation.cluster.stop_component(Component::ApiServer);
    // One goes on through the outage, and one is started anew; so is a third, to have two that start.
    let [stays, restarted] = running;
    drop(restarted);
    let replicas = [stays, start(), start()];
    for replica in &replicas {
        until("the replica to be live", async || is_live(replica).await).await;
    }
    let outage = length("seconds without an API server", 20, 240);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(outage) {
        for replica in &replicas {
            assert!(replica.runs(), "{}", replica.log());
            assert!(is_live(replica).await, "{}", replica.log());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for replica in &replicas[1..] {
        assert!(!replica.is_ready().await);
    }
    let api_server = Component::ApiServer;
    let started = installation.cluster.start_component(api_server);
    started.await.unwrap();
    let back = Instant::now();
    for replica in &replicas {
        replica.ready().await;
        println!("ready {:?} after the API server", back.elapsed());
    }
    let took = back.elapsed();
    assert!(took <= READY_LIMIT, "{took:?}: {}", replicas[1].log());
}

/// A control plane for one test alone, since its other components do not survive a restore.
async fn own_cluster() -> (ControlPlane, std::path::PathBuf) {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let nodes = FakeNodes {
        count: 2,
        ..FakeNodes::default()
    };
    plane.add_fake_nodes(nodes, |_, _| {}).await.unwrap();
    let kubeconfig = Local::install(&plane).await.unwrap();
    let shop = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": SHOP, "labels": {"headstart.dev/prefetch": "enabled"}},
    });
    apply(&plane, &shop).await;
    plane.takes_pods(SHOP).await.unwrap();
    (plane, kubeconfig)
}

async fn apply(plane: &ControlPlane, object: &serde_json::Value) {
    let object = object.to_string();
    let applied = plane.kubectl_with_input(&["apply", "-f", "-"], &object);
    applied.await.unwrap();
}

async fn deploy(plane: &ControlPlane, name: &str) {
    let pod = json!({"containers": [{"name": "app", "image": format!("{name}:1")}]});
    let mut object = harness::deployment(SHOP, name, pod);
    object["spec"]["replicas"] = json!(0);
    apply(plane, &object).await;
}

/// Returns whether both nodes have a prefetch pod of a Deployment.
async fn is_prefetched(client: &Client, name: &str) -> bool {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SHOP);
    let ours = ListParams::default().labels(&format!("headstart.dev/deployment={name}"));
    pods.list(&ours)
        .await
        .is_ok_and(|pods| pods.items.len() == 2)
}

async fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = tokio::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(status.await.unwrap().success());
}

#[tokio::test]
async fn an_etcd_that_is_restored_is_noticed_and_what_is_written_then_is_prefetched() {
    let _turn = FEW_NODES.without_cluster().await;
    let (plane, kubeconfig) = own_cluster().await;
    let client = plane.client().unwrap();
    let mut started = 0;
    let mut start = || {
        started += 1;
        let command = Command::new(env!("CARGO_BIN_EXE_headstart"));
        let name = format!("replica-{started}");
        Replica::new(Local::spawn(&plane, &name, command, &kubeconfig, &[]).unwrap())
    };
    let mut replicas = [start(), start()];
    for replica in &replicas {
        replica.ready().await;
    }
    deploy(&plane, "before").await;
    until("a prefetch", async || {
        is_prefetched(&client, "before").await
    })
    .await;

    let (data, snapshot) = (plane.dir().join("etcd"), plane.dir().join("snapshot"));
    plane.stop_component(Component::Etcd);
    copy(&data, &snapshot).await;
    plane.start_component(Component::Etcd).await.unwrap();
    // The versions of these are gone afterwards, and it takes long until there are as many again.
    until("etcd", async || is_prefetched(&client, "before").await).await;
    for number in 0..40 {
        deploy(&plane, &format!("lost-{number}")).await;
    }
    until("a prefetch", async || {
        is_prefetched(&client, "lost-39").await
    })
    .await;

    for component in [Component::ApiServer, Component::Etcd] {
        plane.stop_component(component);
    }
    std::fs::remove_dir_all(&data).unwrap();
    copy(&snapshot, &data).await;
    for component in [
        Component::Etcd,
        Component::ApiServer,
        Component::ControllerManager,
    ] {
        plane.restart(component).await.unwrap();
    }
    let begun = Instant::now();
    deploy(&plane, "after").await;
    // The kubelet starts again what ends.
    let mut noticed = Vec::new();
    let wait = Wait::new("a prefetch", PREFETCH_LIMIT);
    while !is_prefetched(&client, "after").await || noticed.len() < 2 {
        for replica in &mut replicas {
            if !replica.runs() {
                noticed.push(replica.log());
                println!("noticed after {:?}", begun.elapsed());
                *replica = start();
            }
        }
        if let Err(error) = wait.pause().await {
            panic!("{error}: {}", replicas[0].log());
        }
    }
    println!("prefetched after {:?}", begun.elapsed());
    for log in noticed {
        assert!(log.contains("so etcd was restored"), "{log}");
    }
}
