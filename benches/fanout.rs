//! How fast a rollout's prefetch pods come to be, against how fast they could.
//!
//! From the admission of a Deployment to the last prefetch pod created, on fake nodes; and the same pods created by the
//! same client, as fast as the API server takes them, in the same run and in turns. The first wave's pause, which a
//! rollout to many nodes takes on purpose, is shown apart.
//!
//! `cargo bench --bench fanout` prints a table; `-- --check` fails when a goal is missed; `-- --long` adds 5,000
//! nodes.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on says where"
)]

use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use testbed::control_plane::Options;
use testbed::headstart::Local;
use testbed::process::Wait;
use testbed::{ControlPlane, FakeNodes};

/// As headstart's default for `--max-writes`.
const IN_FLIGHT: usize = 64;
/// What the first wave takes on purpose.
const PAUSE: Duration = Duration::from_secs(2);
/// Only its own namespace: it would look after the raw pods too, which keep their labels so that kwok treats both alike.
const FLAGS: [&str; 2] = ["--lease-duration=3s", "--namespaces=own"];
/// The share of the raw rate that headstart reaches.
const GOAL: f64 = 0.90;
/// Interleaved measurements of each; the best of each counts, because other work on the machine only ever slows down.
const ROUNDS: usize = 3;

struct Bench {
    plane: ControlPlane,
    client: Client,
}

/// What one size came to, in creates per second.
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
    let client = Client::try_from(config).unwrap();
    let bench = Bench { plane, client };
    bench.namespace("raw", false).await;
    bench.namespace("own", true).await;
    let binary = tokio::task::spawn_blocking(testbed::headstart::binary)
        .await
        .unwrap()
        .unwrap();
    let mut rows = Vec::new();
    let mut existing = 0;
    for &nodes in sizes {
        let fake = FakeNodes {
            count: nodes - existing,
            // Longer than a fan-out: what is measured is creates, not kwok.
            pull: Duration::from_secs(20)..Duration::from_secs(30),
            ..FakeNodes::default()
        };
        bench.plane.add_fake_nodes(fake, |_, _| {}).await.unwrap();
        existing = nodes;
        let headstart = Local::start_through(&bench.plane, &binary, &kubeconfig, &FLAGS)
            .await
            .unwrap();
        rows.push(bench.measure(nodes).await);
        drop(headstart);
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
    let figures: Vec<String> = judged
        .iter()
        .map(|row| {
            format!(
                "fan-out to {} nodes {:.2} of raw (goal {GOAL:.2})",
                row.nodes,
                row.ratio()
            )
        })
        .collect();
    println!("{}", figures.join("; "));
    if has("--check") && judged.iter().any(|row| row.ratio() < GOAL) {
        std::process::exit(1);
    }
}

impl Bench {
    async fn namespace(&self, name: &str, opted_in: bool) {
        let api: Api<Namespace> = Api::all(self.plane.client().unwrap());
        let mode = if opted_in { "enabled" } else { "disabled" };
        let namespace =
            json!({ "metadata": { "name": name, "labels": { "headstart.dev/prefetch": mode } } });
        let namespace = serde_json::from_value(namespace).unwrap();
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }

    async fn measure(&self, nodes: usize) -> Row {
        let (mut raw, mut own, mut total) = (0.0_f64, 0.0_f64, Duration::MAX);
        for round in 0..ROUNDS {
            let (rate, whole, pods) = self.headstart(nodes, round).await;
            own = own.max(rate);
            total = total.min(whole);
            self.clear("own", nodes).await;
            raw = raw.max(self.raw(pods).await);
            self.clear("raw", nodes).await;
        }
        Row {
            nodes,
            raw,
            headstart: own,
            total,
        }
    }

    /// A rollout; the rate without the pause, the whole time, and the pods it made.
    async fn headstart(&self, nodes: usize, round: usize) -> (f64, Duration, Vec<Pod>) {
        let api: Api<Deployment> = Api::namespaced(self.plane.client().unwrap(), "own");
        let name = format!("web-{nodes}-{round}");
        let labels = json!({ "app": name });
        let deployment = json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": 0, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "app", "image": format!("acme/web:{round}") }] } },
            },
        });
        let begun = Timestamp::now();
        let deployment = serde_json::from_value(deployment).unwrap();
        api.create(&PostParams::default(), &deployment)
            .await
            .unwrap();
        let pods: Api<Pod> = Api::namespaced(self.plane.client().unwrap(), "own");
        let found = self.wait_for(&pods, nodes).await;
        let created = self.creates("own", begun);
        assert_eq!(created.len(), nodes, "one create for each");
        let last = created.last().unwrap().duration_since(begun);
        let whole = Duration::try_from(last).unwrap();
        let rate = per_second(nodes, whole.saturating_sub(PAUSE));
        (rate, whole, found)
    }

    /// When pods were made since then, in order, from the audit log.
    fn creates(&self, namespace: &str, since: Timestamp) -> Vec<Timestamp> {
        let events = self.plane.audit_events().unwrap().into_iter();
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

    /// The same pods, by the same kind of client.
    async fn raw(&self, pods: Vec<Pod>) -> f64 {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), "raw");
        let pods: Vec<Pod> = pods
            .into_iter()
            .map(|pod| {
                let mut metadata = pod.metadata;
                metadata.namespace = Some("raw".into());
                metadata.owner_references = None;
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
            let remaining = pods
                .list_metadata(&ListParams::default().limit(1))
                .await
                .unwrap();
            let found = remaining.items.len()
                + usize::try_from(remaining.metadata.remaining_item_count.unwrap_or(0)).unwrap();
            if found >= count {
                return pods.list(&ListParams::default()).await.unwrap().items;
            }
            wait.pause().await.unwrap();
        }
    }

    async fn clear(&self, namespace: &str, _nodes: usize) {
        let client = self.plane.client().unwrap();
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let all = ListParams::default();
        deployments
            .delete_collection(&DeleteParams::default(), &all)
            .await
            .unwrap();
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let now = DeleteParams::default().grace_period(0);
        let wait = Wait::new("pods to go", Duration::from_secs(300));
        while !pods
            .list_metadata(&all.clone().limit(1))
            .await
            .unwrap()
            .items
            .is_empty()
        {
            pods.delete_collection(&now, &all).await.unwrap();
            wait.pause().await.unwrap();
        }
    }
}

fn per_second(count: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64().max(0.001)
}
