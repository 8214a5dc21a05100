//! Anything, in any order, for half an hour; and then what a model says must be warm, is. `tests/sim` does the same in virtual time, with
//! more faults; here it is processes, a real API server, and the memory that they take.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use testbed::Component;
use testbed::harness::PATIENCE_AT_SCALE;
use testbed::headstart::Local;
use testbed::process::Wait;
use testbed::progress::say;

use crate::scale::cluster::{
    TestCluster, cluster, deployment, is_long, status_mib, third, third_of_slice, until,
};

const NAMESPACE: &str = "soak";
/// Deployments, each on one slice of nodes.
const DEPLOYMENTS: u64 = 12;
/// How long anything happens.
const LASTS: Duration = Duration::from_secs(1800);
/// Rollouts after that.
const ROUNDS: usize = 200;
/// How much more memory a replica may hold at the end than after its first third. A debug build with an allocator
/// that keeps what it freed for a while.
const GROWTH_MIB: f64 = 24.0;

/// A small generator whose seed is printed: a run can be told again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX; the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What must be the case in the end.
#[derive(Default)]
struct Model {
    /// Images of the Deployments that are there and opted in.
    wanted: BTreeMap<u64, Vec<String>>,
    not_ready: BTreeSet<String>,
    version: u64,
}

fn selector(deployment: u64) -> String {
    format!("third=true,slice={}", deployment % 20)
}

impl Model {
    async fn step(&mut self, cluster: &mut TestCluster, chance: &mut Chance) {
        let number = chance.below(DEPLOYMENTS);
        let name = format!("web-{number}");
        let api: Api<Deployment> = cluster.api(NAMESPACE);
        match chance.below(100) {
            0..55 => {
                self.version += 1;
                let shared = format!("acme/shared:{}", chance.below(3));
                let images = vec![format!("acme/web:{}", self.version), shared];
                let given: Vec<&str> = images.iter().map(String::as_str).collect();
                cluster
                    .apply(&deployment(NAMESPACE, &name, &selector(number), &given))
                    .await;
                self.wanted.insert(number, images);
            }
            55..65 => {
                // Fails where there is none.
                let _ = api.delete(&name, &DeleteParams::default()).await;
                self.wanted.remove(&number);
            }
            65..72 => {
                let label =
                    json!({ "metadata": { "labels": { "headstart.dev/prefetch": "disabled" } } });
                let params = PatchParams::default();
                if api
                    .patch(&name, &params, &Patch::Merge(label))
                    .await
                    .is_ok()
                {
                    // Deleted in the end, so that the next apply opts it in.
                    let _ = api.delete(&name, &DeleteParams::default()).await;
                }
                self.wanted.remove(&number);
            }
            72..92 => {
                let node = format!("fake-{}", chance.below(third() as u64));
                let ready = self.not_ready.remove(&node);
                if !ready {
                    self.not_ready.insert(node.clone());
                }
                cluster.set_ready(&node, ready).await;
            }
            92..97 => {
                cluster.add_replica().await;
                drop(cluster.replicas.remove(0));
            }
            97..99 => {
                // A leader that ends while a standby takes over.
                cluster.add_replica().await;
                let first = cluster.replicas.remove(0);
                tokio::time::sleep(Duration::from_millis(chance.below(2000))).await;
                drop(first);
            }
            _ => cluster.plane.restart(Component::ApiServer).await.unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(chance.below(400))).await;
    }

    /// What is to be warm and is not.
    async fn missing(&self, cluster: &TestCluster) -> Vec<String> {
        let warm = cluster.warm(NAMESPACE).await;
        let mut missing = Vec::new();
        for (number, images) in &self.wanted {
            let nodes = ListParams::default().labels(&selector(*number));
            let nodes = cluster.nodes().list_metadata(&nodes).await.unwrap();
            let of = warm.get(&format!("web-{number}"));
            for node in nodes.iter().map(kube::ResourceExt::name_any) {
                for image in images {
                    let pair = (node.clone(), image.clone());
                    if !of.is_some_and(|of| of.contains(&pair)) {
                        missing.push(format!("web-{number}: {image} on {node}"));
                    }
                }
            }
        }
        missing
    }
}

fn rss_mib(replica: &Local) -> f64 {
    status_mib(replica.process().id().unwrap(), "VmRSS:")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_what_must_be_warm_is_in_the_end() {
    if !is_long() {
        say(
            "LEFT OUT: the soak takes half an hour and runs with HEADSTART_LONG=1; the simulation does the same in short",
        );
        return;
    }
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let seed = std::env::var("HEADSTART_SEED").map_or(seed, |seed| seed.parse().unwrap());
    eprintln!("HEADSTART_SEED={seed}");
    let mut chance = Chance(seed);
    cluster.namespace(NAMESPACE).await;
    cluster.take_turns().await;

    let (mut model, begun, mut steps) = (Model::default(), Instant::now(), 0);
    while begun.elapsed() < LASTS {
        model.step(cluster, &mut chance).await;
        steps += 1;
    }
    for node in std::mem::take(&mut model.not_ready) {
        cluster.set_ready(&node, true).await;
    }
    let warm = Wait::new("everything that must be warm to be", PATIENCE_AT_SCALE);
    let warm = warm.until(async || model.missing(cluster).await.is_empty());
    if let Err(in_vain) = warm.await {
        panic!("{in_vain}: {:?}", model.missing(cluster).await);
    }
    // And nothing is left of what is not wanted.
    until("pods of Deployments that are gone to go", async || {
        let pods = cluster.pods(NAMESPACE, None).await;
        pods.iter().all(|pod| {
            let name = &pod.labels()[headstart_core::api::well_known::DEPLOYMENT_LABEL];
            let number: u64 = name.trim_start_matches("web-").parse().unwrap();
            model.wanted.contains_key(&number)
        })
    })
    .await;
    eprintln!("{steps} steps in {LASTS:?}: nothing missing, nothing left");

    // One replica, over many rollouts more: what it holds does not grow.
    let replica = cluster.replicas.last().unwrap();
    let before = rss_mib(replica);
    for round in 0..ROUNDS {
        let image = format!("acme/round:{round}");
        cluster
            .apply(&deployment(
                NAMESPACE,
                "round",
                "third=true,slice=1",
                &[&image],
            ))
            .await;
        until("the round to be warm", async || {
            let warm = cluster.warm(NAMESPACE).await;
            warm.get("round")
                .into_iter()
                .flatten()
                .filter(|(_, i)| *i == image)
                .count()
                == third_of_slice()
        })
        .await;
    }
    let after = rss_mib(replica);
    eprintln!("{before:.1} MiB, and {after:.1} MiB many rollouts later");
    assert!(after - before < GROWTH_MIB, "{before} to {after} MiB");
    cluster.clear(NAMESPACE).await;
}
