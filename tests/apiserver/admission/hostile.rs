//! No user below a cluster's administrator harms others through headstart. Strangers on the network and a tenant send and store
//! everything they can, all at once, against two replicas with 1,000 nodes to care for.

mod bodies;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headstart_core::api::well_known::DEPLOYMENT_LABEL;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use testbed::control_plane::Options;
use testbed::harness::length;
use testbed::headstart::Local;
use testbed::process::Wait;
use testbed::{ControlPlane, FakeNodes};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::client::{Tls, plain_get, post};
use crate::admission::forwarder::Forwarder;
use crate::admission::healthy::Healthy;
use crate::admission::installation::{self, Installation, OWN, PATIENCE, SHOP, bundle, until};
use crate::admission::load::{BOUND, one_replica, released};
use crate::admission::replica::Replica;
use crate::machine;

/// The namespace of a tenant who means harm.
const MALLORY: &str = "mallory";
/// The nodes that a rollout is measured on.
const SLICE: usize = 200;
const PATHS: [&str; 3] = ["/mutate", "/hold", "/validate"];
/// Clients that send them at once, half of them to each replica.
const CLIENTS: usize = 4;
/// Of the silent connections, how many this process has open at a time.
const OPEN: usize = 4000;
/// Open files of a replica: connections for reviews and for probes, and those that it needs itself.
const FILES: usize = 512 + 64 + 64;
/// As the manifests set it for the kubelet.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Half of the healthy reviews take less.
const MEDIAN: Duration = Duration::from_millis(10);

/// The sizes of the attack.
#[derive(Clone, Copy, Debug)]
struct Load {
    nodes: usize,
    /// The number of times that each body is sent to each path.
    times: usize,
    /// Connections that send nothing. Many more than a replica has room for, also in the short form.
    silent: usize,
}

impl Load {
    fn chosen() -> Self {
        let short = Self {
            nodes: 300,
            times: 2,
            silent: 3000,
        };
        let long = Self {
            nodes: 1000,
            times: 20,
            silent: 20_000,
        };
        length("hostile load", short, long)
    }
}

struct TestCluster {
    plane: ControlPlane,
    client: Client,
    replicas: Vec<Replica>,
    kubeconfig: std::path::PathBuf,
}

impl TestCluster {
    async fn start(load: Load) -> Self {
        let plane = ControlPlane::start(Options::default()).await.unwrap();
        let nodes = FakeNodes {
            count: load.nodes,
            ..FakeNodes::default()
        };
        let label = move |index: usize, node: &mut k8s_openapi::api::core::v1::Node| {
            let labels = node.metadata.labels.get_or_insert_default();
            labels.insert("slice".into(), (index * SLICE / load.nodes).to_string());
            labels.insert("pool".into(), (index < SLICE).to_string());
        };
        plane.add_fake_nodes(nodes, label).await.unwrap();
        let kubeconfig = Local::install(&plane).await.unwrap();
        for name in [SHOP, MALLORY] {
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"headstart.dev/prefetch": "enabled"}},
            });
            let apply = ["apply", "-f", "-"];
            let namespace = namespace.to_string();
            plane.kubectl_with_input(&apply, &namespace).await.unwrap();
            plane.takes_pods(name).await.unwrap();
        }
        let mut cluster = Self {
            client: plane.client().unwrap(),
            plane,
            replicas: Vec::new(),
            kubeconfig,
        };
        for name in ["one", "two"] {
            let replica = cluster.spawn(name, released().await);
            replica.ready().await;
            cluster.replicas.push(replica);
        }
        cluster
    }

    fn spawn(&self, name: &str, command: Command) -> Replica {
        let spawned = Local::spawn(&self.plane, name, command, &self.kubeconfig, &[]);
        Replica::new(spawned.unwrap())
    }

    /// Waits until a replica's certificate is trusted by who reads the registration.
    async fn tls(&self) -> Tls {
        let wait = Wait::new("an answer through the published CA", PATIENCE);
        loop {
            let tls = Tls::trusting(&bundle(&self.client).await);
            let mut answered = 0;
            for replica in &self.replicas {
                answered += usize::from(tls.connect(replica.port).await.is_ok());
            }
            if answered == self.replicas.len() {
                return tls;
            }
            wait.pause().await.unwrap();
        }
    }

    /// The leader, and how often it changed.
    async fn lease(&self) -> (Option<String>, Option<i32>) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OWN);
        let spec = leases.get(OWN).await.unwrap().spec.unwrap();
        (spec.holder_identity, spec.lease_transitions)
    }

    async fn create(&self, namespace: &str, deployment: &Value) {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let deployment = serde_json::from_value(deployment.clone()).unwrap();
        deployments
            .create(&PostParams::default(), &deployment)
            .await
            .unwrap();
    }

    /// Stores objects as a tenant can while no webhook refuses them, as after an upgrade: as large as the API server allows.
    async fn store_hostile_objects(&self) {
        let annotated = |name: &str, key: &str, value: String| {
            let mut object = deployment(name, "app:1");
            object["metadata"]["annotations"] = json!({ key: value });
            object
        };
        let values = |prefix: &str| {
            let values = (0..).map(|index| format!("{prefix}{index}"));
            values.take(35_000).collect::<Vec<_>>().join(",")
        };
        let selector = "headstart.dev/node-selector";
        for index in 0..30 {
            let values = values("v");
            let object = annotated(
                &format!("selector-{index}"),
                selector,
                format!("pool notin ({values})"),
            );
            self.create(MALLORY, &object).await;
        }
        let nowhere = format!("pool in ({})", values("w"));
        self.create(MALLORY, &annotated("nowhere", selector, nowhere))
            .await;
        let references: Vec<String> = (10_000..60_000).map(|n| format!("{n:04x}")).collect();
        let object = annotated("images", "headstart.dev/images", references.join(","));
        self.create(MALLORY, &object).await;
        let mut object = deployment("containers", "app:1");
        let containers =
            (0..5000).map(|n| json!({"name": format!("c{n}"), "image": format!("app:{n}")}));
        object["spec"]["template"]["spec"]["containers"] = containers.collect();
        object["metadata"]["annotations"] = json!({selector: "pool = nowhere"});
        self.create(MALLORY, &object).await;
    }

    /// From the write of a Deployment until every node that it may run on has a prefetch pod.
    async fn prefetched(&self, name: &str) -> Duration {
        let begun = Instant::now();
        let mut object = deployment(name, &format!("registry.example.com/{name}:1"));
        object["metadata"]["annotations"] = json!({"headstart.dev/node-selector": "pool = true"});
        self.create(SHOP, &object).await;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SHOP);
        let label = format!("{DEPLOYMENT_LABEL}={name}");
        let of_this = ListParams::default().labels(&label);
        let wait = Wait::new("a prefetch pod on each node", PATIENCE);
        loop {
            let pods = pods.list_metadata(&of_this).await.unwrap().items.len();
            assert!(pods <= SLICE);
            if pods == SLICE {
                return begun.elapsed();
            }
            if let Err(error) = wait.pause().await {
                panic!("{error}: {pods} of {SLICE}");
            }
        }
    }

    /// Rollouts until there is an end of it, and three at least; how long the middle one took.
    async fn rollouts(&self, what: &str, end: &CancellationToken) -> Duration {
        let mut all = Vec::new();
        while all.len() < 3 || !end.is_cancelled() {
            let name = format!("{what}-{}", all.len());
            all.push(self.prefetched(&name).await);
        }
        all.sort();
        println!("rollouts {what}: {all:.1?}");
        all[all.len() / 2]
    }
}

/// The suite's Deployment, to be made hostile, in any namespace.
fn deployment(name: &str, image: &str) -> Value {
    let mut deployment = installation::deployment(name, image);
    deployment.metadata.namespace = None;
    serde_json::to_value(deployment).unwrap()
}

/// Probes a replica as the kubelet does, on a thread of its own, and looks at its open files.
struct Probing {
    stop: CancellationToken,
    thread: JoinHandle<(Duration, usize)>,
}

impl Probing {
    fn start(replica: &Replica) -> Self {
        let stop = CancellationToken::new();
        let (stopped, port, pid) = (stop.clone(), replica.probes, replica.pid());
        let probe = async move {
            let (mut slowest, mut most) = (Duration::ZERO, 0);
            while !stopped.is_cancelled() {
                let begun = Instant::now();
                let answer = plain_get(port, "/livez").await;
                let took = begun.elapsed();
                assert!(
                    matches!(answer, Ok((200, _))) && took < PROBE_TIMEOUT,
                    "{answer:?} after {took:?}"
                );
                slowest = slowest.max(took);
                let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
                most = most.max(files.count());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (slowest, most)
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let thread = std::thread::spawn(move || runtime.block_on(probe));
        Self { stop, thread }
    }

    async fn stop(self) {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(|| self.thread.join());
        let (slowest, files) = joined.await.unwrap().unwrap();
        println!("the slowest probe took {slowest:.1?}, with at most {files} files open");
        assert!(files <= FILES, "{files}");
    }
}

/// Does this on a thread with the lowest priority: attackers have machines of their own, and here they would take the
/// processors from the API server.
fn elsewhere(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(|| {
        let own = std::fs::read_link("/proc/thread-self").unwrap();
        let own = own.file_name().unwrap();
        let renice = Command::new("renice")
            .args(["-n", "19", "-p"])
            .arg(own)
            .output();
        assert!(renice.unwrap().status.success());
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(work);
    })
}

/// Connections that send nothing, each the last of so many that are open.
async fn silent_connections(port: u16, count: usize) {
    let begun = Instant::now();
    let mut open = VecDeque::new();
    for index in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        // One address has ports for as many connections as are made here; the test before may have used them up.
        let last = u8::try_from(2 + index * 10 / count).unwrap();
        let from = Ipv4Addr::new(127, 0, 0, last);
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await;
        open.push_back(stream.unwrap());
        if open.len() > OPEN {
            drop::<Option<TcpStream>>(open.pop_front());
        }
    }
    println!("{count} silent connections in {:.1?}", begun.elapsed());
}

/// Sends each hostile body so often to each path of both replicas.
async fn hostile_bodies(tls: Tls, ports: [u16; 2], times: usize) {
    for bodies::Hostile { what, body } in bodies::all() {
        let begun = Instant::now();
        let body: Arc<str> = body.into();
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (tls, body, port) = (tls.clone(), body.clone(), ports[client % ports.len()]);
            clients.spawn(async move {
                let mut said = Vec::new();
                for turn in (client..times * PATHS.len()).step_by(CLIENTS) {
                    let mut stream = tls.connect(port).await.unwrap();
                    let path = format!("{}?timeout=10s", PATHS[turn / times]);
                    said.push(post(&mut stream, &path, &body).await.unwrap().0);
                }
                said
            });
        }
        let mut said = clients.join_all().await.concat();
        said.sort_unstable();
        let counts = said.chunk_by(|a, b| a == b);
        let counts: Vec<_> = counts.map(|of| (of[0], of.len())).collect();
        println!("{what}: {:.1?}, answers {counts:?}", begun.elapsed());
        assert!(
            said.iter()
                .all(|status| [200, 400, 413, 503].contains(status)),
            "{what}: {counts:?}"
        );
    }
}

async fn forged_holds(tls: Tls, ports: [u16; 2]) {
    for port in ports {
        let mut stream = tls.connect(port).await.unwrap();
        for index in 0..1000 {
            let body = bodies::forged_hold(index);
            let (status, said) = post(&mut stream, "/hold", &body).await.unwrap();
            assert_eq!(status, 200, "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_objects_and_connections_harm_nobody() {
    let _machine = machine().await;
    let load = Load::chosen();
    let cluster = TestCluster::start(load).await;
    let forwarder = Forwarder::start().await;
    cluster
        .replicas
        .iter()
        .for_each(|replica| forwarder.add(replica));
    Local::call_at(&cluster.plane, forwarder.port)
        .await
        .unwrap();
    let tls = cluster.tls().await;
    // The first prefetch pays for work that is done once: connections, caches of the API server.
    cluster.prefetched("web-0").await;
    let now = CancellationToken::new();
    now.cancel();
    let usual = cluster.rollouts("before", &now).await;
    let before: Vec<u64> = cluster.replicas.iter().map(|r| r.memory("VmRSS")).collect();
    let lease = cluster.lease().await;

    Local::apply_manifests(&cluster.plane).await.unwrap();
    cluster.store_hostile_objects().await;
    Local::call_at(&cluster.plane, forwarder.port)
        .await
        .unwrap();

    let ports = [cluster.replicas[0].port, cluster.replicas[1].port];
    let probing: Vec<_> = cluster.replicas.iter().map(Probing::start).collect();
    let healthy = ports.map(|port| Healthy::start(&tls, port));
    let end = CancellationToken::new();
    let attack = {
        let end = end.clone();
        let probes: Vec<u16> = cluster
            .replicas
            .iter()
            .map(|replica| replica.probes)
            .collect();
        elsewhere(async move {
            // Ends also when one of them fails.
            let _end = end.drop_guard();
            for port in probes {
                silent_connections(port, load.silent).await;
            }
            tokio::join!(
                hostile_bodies(tls.clone(), ports, load.times),
                forged_holds(tls, ports)
            );
        })
    };
    let meanwhile = cluster.rollouts("meanwhile", &end).await;
    tokio::task::spawn_blocking(|| attack.join())
        .await
        .unwrap()
        .unwrap();
    let mut medians = Vec::new();
    for healthy in healthy {
        medians.push(healthy.stop("under all of it", 50).await);
    }
    for probing in probing {
        probing.stop().await;
    }

    for (replica, before) in cluster.replicas.iter().zip(&before) {
        assert!(replica.runs(), "{}", replica.log());
        let (peak, now) = (replica.memory("VmHWM"), replica.memory("VmRSS"));
        println!("memory: {before} MiB before, {peak} at most, {now} now");
        assert!(peak <= before + BOUND, "{peak} MiB, {before} before");
    }
    assert_eq!(cluster.lease().await, lease, "the leader stays one");
    println!("a rollout took {usual:.1?} before, {meanwhile:.1?} meanwhile");
    assert!(meanwhile <= usual * 2, "{meanwhile:?}, {usual:?} before");
    for median in medians {
        assert!(median < MEDIAN, "{median:?}");
    }
    // The stored objects are there when a replica starts, too.
    let third = cluster.spawn("three", released().await);
    third.ready().await;
    let peak = third.memory("VmHWM");
    println!("memory: {peak} MiB at most by the start among hostile objects");
    assert!(peak <= before[0] + BOUND, "{peak} MiB");
}

/// The log does not repeat the text of strangers' requests, and they do not fill a disk with it.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_do_not_fill_the_log() {
    let installation = Installation::new().await;
    let (replica, tls) = one_replica(&installation).await;
    let before = replica.log().len();
    let text = bodies::all().find(|hostile| hostile.what == "a dry run that is a text");
    let mut stream = tls.connect(replica.port).await.unwrap();
    let (status, said) = post(&mut stream, "/mutate", &text.unwrap().body)
        .await
        .unwrap();
    assert!(status == 400 && said.len() < 1024, "{status}: {said}");
    let line = "refused a request that is no review";
    replica.says("", line).await;
    let grown = replica.log().len() - before;
    println!("the log grew by {grown} bytes");
    assert!(grown < 1024, "{grown}");

    let before = replica.log();
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..10 {
        let port = replica.port;
        clients.spawn(async move {
            for _ in 0..100 {
                use tokio::io::AsyncReadExt as _;
                use tokio::io::AsyncWriteExt as _;
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                stream.write_all(&[0x16; 64]).await.unwrap();
                // To its end, so that the failure is known there.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
    }
    clients.join_all().await;
    let took = begun.elapsed();
    replica
        .says(&before, "more like this were not logged")
        .await;
    until("the last count", async || {
        let log = replica.log();
        counted(&log[before.len()..]) == 1000
    })
    .await;
    let lines = replica.log()[before.len()..].lines().count();
    println!("1,000 failed handshakes in {took:.1?}: {lines} lines");
    assert!(lines < 100, "{lines}");
}

/// Returns the number of failed handshakes that the log says.
fn counted(log: &str) -> usize {
    let failed = log
        .lines()
        .filter(|line| line.contains("TLS handshake failed"));
    let count = |line: &str| {
        let (before, _) = line.split_once(" more like this")?;
        before.rsplit(' ').next()?.parse::<usize>().ok()
    };
    failed.map(|line| count(line).unwrap_or(1)).sum()
}
