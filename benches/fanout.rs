//! Compares the rate at which headstart creates a rollout's prefetch pods with the rate that the API server allows.
//!
//! Measures the time from the admission of a Deployment to the last prefetch pod created, on fake nodes. The same kind of
//! client also creates the same pods as fast as the API server takes them. Both sides take turns in one run. The pause after
//! the first wave, which is deliberate in a rollout to many nodes, is shown apart. Every figure is the median of its rounds.
//! In one more rollout headstart deletes its finished pods, and all its writes to pods are counted.
//!
//! `cargo bench --bench fanout` prints a table; `-- --check` fails when a goal is missed; `-- --long` adds 5,000 nodes.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on says where"
)]

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use testbed::control_plane::Options;
use testbed::headstart::{Local, Profile};
use testbed::process::Wait;
use testbed::statistics::median;
use testbed::{ControlPlane, FakeNodes};

/// As headstart's default for `--max-writes`.
const IN_FLIGHT: usize = 64;
/// The deliberate pause after the first wave.
const PAUSE: Duration = Duration::from_secs(2);
/// headstart watches only its own namespace. Otherwise it would also manage the raw pods, which keep their labels so that kwok
/// treats both alike.
const FLAGS: [&str; 2] = ["--lease-duration=3s", "--namespaces=own"];
/// Deletes finished pods soon, so that their writes can be counted.
const DELETING: &str = "--retain=10s";
/// The user name of headstart's account.
const OWN_USER: &str = "system:serviceaccount:headstart:headstart";
/// The share of the raw rate that headstart reaches.
const GOAL: f64 = 0.90;
/// Writes to pods per node and rollout: a create and a delete.
const WRITES_GOAL: f64 = 2.0;
/// The size at which writes are counted.
const COUNTED: usize = 1000;
/// The number of measurements of each side, in turns; the median counts. A large size takes minutes and varies less.
fn rounds(nodes: usize) -> usize {
    if nodes > 1000 { 3 } else { 5 }
}

struct Bench {
    plane: ControlPlane,
    /// The client that deploys: connected beforehand, as the raw client is.
    user: Client,
    /// The client that creates the raw pods.
    raw: Client,
}

/// The result for one number of nodes: medians, in creates per second.
struct Row {
    nodes: usize,
    raw: f64,
    headstart: f64,
    total: Duration,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.headstart / self.raw
    }
}

#[tokio::main]
async fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let sizes: &[usize] = if has("--long") {
        &[100, 1000, 5000]
    } else {
        &[100, 1000]
    };
    let plane = ControlPlane::start(Options {
        audit: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let kubeconfig = Local::install(&plane).await.unwrap();
    // The raw client acts as headstart does: priority and fairness treats both alike.
    let file = kube::config::Kubeconfig::read_from(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default())
        .await
        .unwrap();
    let raw = Client::try_from(config).unwrap();
    let user = plane.client().unwrap();
    let bench = Bench { plane, user, raw };
    bench.namespace("raw", false).await;
    bench.namespace("own", true).await;
    let binary = tokio::task::spawn_blocking(|| testbed::headstart::binary(Profile::Release))
        .await
        .unwrap()
        .unwrap();
    let mut rows = Vec::new();
    let (mut existing, mut writes) = (0, f64::NAN);
    for &nodes in sizes {
        let fake = FakeNodes {
            count: nodes - existing,
            // A pull takes longer than a fan-out, so that the creates are measured and not kwok.
            pull: Duration::from_secs(20)..Duration::from_secs(30),
            ..FakeNodes::default()
        };
        bench.plane.add_fake_nodes(fake, |_, _| {}).await.unwrap();
        existing = nodes;
        let headstart = leader(&bench.plane, &binary, &kubeconfig, &FLAGS).await;
        rows.push(bench.measure(nodes).await);
        drop(headstart);
        if nodes == COUNTED {
            let flags = [&FLAGS[..], &[DELETING]].concat();
            let headstart = leader(&bench.plane, &binary, &kubeconfig, &flags).await;
            writes = bench.writes(nodes).await;
            drop(headstart);
        }
    }
    println!(
        "\n nodes   raw creates/s   headstart creates/s   ratio   admission to last pod, with the wave's pause"
    );
    for row in &rows {
        println!(
            "{:>6}   {:>13.0}   {:>19.0}   {:>5.2}   {:>8.2} s",
            row.nodes,
            row.raw,
            row.headstart,
            row.ratio(),
            row.total.as_secs_f64()
        );
    }
    // A hundred pods are over before a rate is reached: shown, not judged.
    let judged: Vec<&Row> = rows.iter().filter(|row| row.nodes >= 1000).collect();
    let mut figures: Vec<String> = judged
        .iter()
        .map(|row| {
            format!(
                "fan-out to {} nodes {:.2} of raw (goal {GOAL:.2})",
                row.nodes,
                row.ratio()
            )
        })
        .collect();
    figures.push(format!(
        "writes to pods per node and rollout {writes:.2} (goal {WRITES_GOAL:.2})"
    ));
    println!("{}", figures.join("; "));
    let met = judged.iter().all(|row| row.ratio() >= GOAL) && writes <= WRITES_GOAL;
    if has("--check") && !met {
        std::process::exit(1);
    }
}

/// Starts headstart, and waits until it leads: the one before has left a lease that runs out first.
async fn leader(plane: &ControlPlane, binary: &Path, kubeconfig: &Path, flags: &[&str]) -> Local {
    let local = Local::start_through(plane, binary, kubeconfig, flags)
        .await
        .unwrap();
    let wait = Wait::new("headstart to lead", Duration::from_secs(60));
    while !local
        .get("/metrics")
        .await
        .is_ok_and(|metrics| metrics.contains("headstart_leader 1\n"))
    {
        wait.pause().await.unwrap();
    }
    local
}

impl Bench {
    async fn namespace(&self, name: &str, opted_in: bool) {
        let api: Api<Namespace> = Api::all(self.user.clone());
        // A policy asks for consent where headstart's account creates the raw pods, too.
        let mode = if opted_in { "enabled" } else { "allowed" };
        let namespace =
            json!({ "metadata": { "name": name, "labels": { "headstart.dev/prefetch": mode } } });
        let namespace = serde_json::from_value(namespace).unwrap();
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }

    async fn measure(&self, nodes: usize) -> Row {
        let (mut raw, mut own, mut total) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds(nodes) {
            let (rate, whole, pods) = self.headstart(nodes, round).await;
            self.clear("own").await;
            let bare = self.raw(pods).await;
            self.clear("raw").await;
            println!("{nodes} nodes, round {round}: raw {bare:.0}/s, headstart {rate:.0}/s");
            own.push(rate);
            raw.push(bare);
            total.push(whole.as_secs_f64());
        }
        Row {
            nodes,
            raw: median(raw),
            headstart: median(own),
            total: Duration::from_secs_f64(median(total)),
        }
    }

    /// Returns the number of headstart's writes to pods per node, from the start of a rollout until its pods are deleted.
    async fn writes(&self, nodes: usize) -> f64 {
        let begun = Timestamp::now();
        self.roll_out("own", "counted", "acme/counted:1").await;
        let pods: Api<Pod> = Api::namespaced(self.user.clone(), "own");
        let wait = Wait::new("headstart to delete its pods", Duration::from_secs(600));
        // All pods are created before the first is deleted: a pull takes longer.
        self.wait_for(&pods, nodes).await;
        while self.count(&pods).await > 0 {
            wait.pause().await.unwrap();
        }
        let events = self.plane.audit_events("own").unwrap().into_iter();
        let writes = events
            .filter(|event| event.user == OWN_USER && event.resource == "pods")
            .filter(|event| event.namespace == "own")
            .filter(|event| !["get", "list", "watch"].contains(&event.verb.as_str()))
            .filter(|event| {
                event
                    .time
                    .parse()
                    .is_ok_and(|time: Timestamp| time >= begun)
            });
        self.clear("own").await;
        f64::from(u32::try_from(writes.count()).unwrap()) / f64::from(u32::try_from(nodes).unwrap())
    }

    async fn roll_out(&self, namespace: &str, name: &str, image: &str) -> Deployment {
        let api: Api<Deployment> = Api::namespaced(self.user.clone(), namespace);
        let labels = json!({ "app": name });
        let deployment = json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": 0, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "app", "image": image }] } },
            },
        });
        let deployment = serde_json::from_value(deployment).unwrap();
        api.create(&PostParams::default(), &deployment)
            .await
            .unwrap()
    }

    /// Rolls out. Returns the rate without the pause, the whole time, and the created pods.
    async fn headstart(&self, nodes: usize, round: usize) -> (f64, Duration, Vec<Pod>) {
        let begun = Timestamp::now();
        self.roll_out(
            "own",
            &format!("web-{nodes}-{round}"),
            &format!("acme/web:{round}"),
        )
        .await;
        let pods: Api<Pod> = Api::namespaced(self.user.clone(), "own");
        let found = self.wait_for(&pods, nodes).await;
        let created = self.creates("own", begun);
        assert_eq!(created.len(), nodes, "one create for each");
        let last = created.last().unwrap().duration_since(begun);
        let whole = Duration::try_from(last).unwrap();
        let rate = per_second(nodes, whole.saturating_sub(PAUSE));
        (rate, whole, found)
    }

    /// Returns the times of the pod creates since `since`, in order, from the audit log.
    fn creates(&self, namespace: &str, since: Timestamp) -> Vec<Timestamp> {
        let events = self.plane.audit_events(namespace).unwrap().into_iter();
        let mut times: Vec<Timestamp> = events
            .filter(|event| {
                event.verb == "create" && event.resource == "pods" && event.subresource.is_empty()
            })
            .filter(|event| event.namespace == namespace && event.code == 201)
            .filter_map(|event| event.time.parse().ok())
            .filter(|time| *time >= since)
            .collect();
        times.sort_unstable();
        times
    }

    /// Creates the same pods with the same kind of client. Returns the rate.
    async fn raw(&self, pods: Vec<Pod>) -> f64 {
        let api: Api<Pod> = Api::namespaced(self.raw.clone(), "raw");
        // headstart may only create pods that a Deployment owns, and the garbage collector checks that the owner exists.
        let owner = self.roll_out("raw", "owner", "acme/web:1").await;
        let owner = owner.controller_owner_ref(&()).unwrap();
        let pods: Vec<Pod> = pods
            .into_iter()
            .map(|pod| {
                let mut metadata = pod.metadata;
                metadata.namespace = Some("raw".into());
                metadata.owner_references = Some(vec![owner.clone()]);
                metadata.uid = None;
                metadata.resource_version = None;
                metadata.creation_timestamp = None;
                metadata.managed_fields = None;
                Pod {
                    metadata,
                    spec: pod.spec,
                    status: None,
                }
            })
            .collect();
        let (count, begun) = (pods.len(), Timestamp::now());
        let refused = stream::iter(pods)
            .map(|pod| {
                let api = &api;
                async move { api.create(&PostParams::default(), &pod).await.err() }
            })
            .buffer_unordered(IN_FLIGHT)
            .filter_map(async |error| error)
            .collect::<Vec<_>>()
            .await;
        assert!(refused.is_empty(), "{refused:?}");
        let created = self.creates("raw", begun);
        let took = created.last().unwrap().duration_since(begun);
        per_second(count, Duration::try_from(took).unwrap())
    }

    async fn wait_for(&self, pods: &Api<Pod>, count: usize) -> Vec<Pod> {
        let wait = Wait::new(format!("{count} pods"), Duration::from_secs(300));
        loop {
            // Counted by the metadata of one page at a time would disturb less; a list a second does not matter.
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.count(pods).await >= count {
                return pods.list(&ListParams::default()).await.unwrap().items;
            }
            wait.pause().await.unwrap();
        }
    }

    async fn count(&self, pods: &Api<Pod>) -> usize {
        let first = ListParams::default().limit(1);
        let first = pods.list_metadata(&first).await.unwrap();
        let others = first.metadata.remaining_item_count.unwrap_or(0);
        first.items.len() + usize::try_from(others).unwrap()
    }

    async fn clear(&self, namespace: &str) {
        let deployments: Api<Deployment> = Api::namespaced(self.user.clone(), namespace);
        let all = ListParams::default();
        deployments
            .delete_collection(&DeleteParams::default(), &all)
            .await
            .unwrap();
        let pods: Api<Pod> = Api::namespaced(self.user.clone(), namespace);
        let now = DeleteParams::default().grace_period(0);
        let wait = Wait::new("pods to go", Duration::from_secs(300));
        while self.count(&pods).await > 0 {
            pods.delete_collection(&now, &all).await.unwrap();
            wait.pause().await.unwrap();
        }
    }
}

fn per_second(count: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64().max(0.001)
}
