//! Nodes by the thousand that only pretend: kwok, with stages of our own.
//!
//! Pods of Deployments run and become ready. Pods of headstart (`app.kubernetes.io/managed-by: headstart`)
//! take their time to pull, run and succeed. An image with `/missing` or ending in `:missing` never arrives.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt as _};

use crate::assets::{CONTAINERD_VERSION, KUBERNETES_VERSION};
use crate::control_plane::ControlPlane;
use crate::process::{Process, READY_LIMIT, Wait, without_proxies};

/// The mark of a fake node, as a label and as an annotation, which kwok reads.
pub const FAKE_NODE: (&str, &str) = ("kwok.x-k8s.io/node", "fake");

const NODE_STAGES: &str = include_str!("../kwok/nodes.yaml");
const POD_STAGES: &str = include_str!("../kwok/pods.yaml");
const PREFETCH_STAGES: &str = include_str!("../kwok/prefetch.yaml");
const FAILING_STATUS: &str = include_str!("../kwok/failing-status.yaml");

/// In jq: the images of a pod that never arrive.
const MISSING_IMAGE: &str = r#"[.spec.containers[]?.image, .spec.initContainers[]?.image, .spec.volumes[]?.image.reference]
    | .[] | select(. != null) | select(test("/missing|:missing$"))"#;

/// Creates in flight: more are slower on few cores.
const CREATES_IN_FLIGHT: usize = 32;
/// The shares of pulls that succeed and fail add up to this.
const WEIGHTS: f64 = 10_000.0;

/// The number of fake nodes, and the course of pulls on them. The latest call decides about the pulls on all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeNodes {
    /// The number of nodes to add.
    pub count: usize,
    /// The share of headstart's pods that cannot pull, by chance, from 0 to 1.
    pub pull_failures: f64,
    /// The duration of a pull.
    pub pull: Range<Duration>,
}

impl Default for FakeNodes {
    fn default() -> Self {
        Self {
            count: 10,
            pull_failures: 0.0,
            pull: Duration::from_millis(200)..Duration::from_millis(800),
        }
    }
}

/// The running kwok with its configuration.
#[derive(Debug)]
pub(crate) struct Kwok {
    pub(crate) process: Process,
    stages: String,
    nodes: usize,
}

impl ControlPlane {
    /// Adds fake nodes, `fake-0`, `fake-1`, …, and waits until all can be scheduled on. Each can be changed
    /// before it is created, by its number.
    ///
    /// # Errors
    /// Fails if they do not become ready.
    pub async fn add_fake_nodes(
        &self,
        fake: FakeNodes,
        change: impl Fn(usize, &mut Node),
    ) -> Result<()> {
        ensure!(
            (0.0..=1.0).contains(&fake.pull_failures),
            "pull_failures is a share, from 0 to 1"
        );
        let mut kwok = self.kwok.lock().await;
        let first = kwok.as_ref().map_or(0, |kwok| kwok.nodes);
        self.ensure_kwok(&mut kwok, &fake).await?;

        let nodes: Api<Node> = Api::all(self.client()?);
        let parameters = PostParams::default();
        let created: Vec<String> = stream::iter(first..first + fake.count)
            .map(|index| {
                let mut node = fake_node(index);
                change(index, &mut node);
                let (nodes, parameters) = (&nodes, &parameters);
                async move { anyhow::Ok(nodes.create(parameters, &node).await?.name_any()) }
            })
            .buffer_unordered(CREATES_IN_FLIGHT)
            .try_collect()
            .await
            .context("create fake nodes")?;
        if let Some(kwok) = kwok.as_mut() {
            kwok.nodes += fake.count;
            wait_until_ready(&nodes, created.len() + first, &kwok.process).await?;
        }
        Ok(())
    }

    /// Starts kwok; or starts it again, if pulls are to go differently from now on.
    async fn ensure_kwok(&self, kwok: &mut Option<Kwok>, fake: &FakeNodes) -> Result<()> {
        let stages = stages(fake);
        let nodes = match kwok.as_ref() {
            Some(running) if running.stages == stages => return running.process.check_alive(),
            Some(running) => running.nodes,
            None => 0,
        };
        if kwok.take().is_some() {
            release_leases(self.client()?).await?;
        }
        let path = self.dir().join("kwok.yaml");
        fs::write(&path, &stages)?;
        let mut command = without_proxies(self.assets().program("kwok"));
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--config")
            .arg(&path)
            .args([
                &format!(
                    "--manage-nodes-with-annotation-selector={}={}",
                    FAKE_NODE.0, FAKE_NODE.1
                ),
                "--node-lease-duration-seconds=200",
            ]);
        // kwok reads its home directory's configuration too, which is not ours to obey.
        command.env("HOME", self.dir());
        let process = Process::spawn(self.run(), "kwok", command)?;
        *kwok = Some(Kwok {
            process,
            stages,
            nodes,
        });
        Ok(())
    }
}

/// A new kwok would wait for the leases that its predecessor holds.
async fn release_leases(client: Client) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let held = leases.list_metadata(&ListParams::default()).await?;
    let fakes = held
        .iter()
        .map(|lease| lease.name_any())
        .filter(|name| name.starts_with("fake-"));
    stream::iter(fakes)
        .map(|name| {
            let leases = &leases;
            async move {
                leases
                    .delete(&name, &DeleteParams::default())
                    .await
                    .map(drop)
            }
        })
        .buffer_unordered(CREATES_IN_FLIGHT)
        .try_collect()
        .await
        .context("delete the leases of fake nodes")
}

async fn wait_until_ready(nodes: &Api<Node>, count: usize, kwok: &Process) -> Result<()> {
    let limit = READY_LIMIT * u32::try_from(count / 1000 + 1)?;
    let wait = Wait::new(
        format!("{count} fake nodes to be ready ({})", kwok.log().display()),
        limit,
    );
    let all = ListParams::default().labels(&format!("{}={}", FAKE_NODE.0, FAKE_NODE.1));
    while nodes
        .list(&all)
        .await?
        .iter()
        .filter(|node| is_ready(node))
        .count()
        < count
    {
        kwok.check_alive()?;
        wait.pause().await?;
    }
    Ok(())
}

/// Ready, and the taint of the time before is off.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && !taints
            .iter()
            .any(|taint| taint.key == "node.kubernetes.io/not-ready")
}

fn fake_node(index: usize) -> Node {
    let name = format!("fake-{index}");
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let resources: BTreeMap<String, Quantity> = [
        ("cpu", "8"),
        ("memory", "32Gi"),
        ("pods", "110"),
        ("ephemeral-storage", "100Gi"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), Quantity(value.to_owned())))
    .collect();
    Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(text(&[FAKE_NODE])),
            labels: Some(text(&[
                FAKE_NODE,
                ("kubernetes.io/hostname", &name),
                ("kubernetes.io/os", "linux"),
                ("kubernetes.io/arch", architecture),
            ])),
            ..ObjectMeta::default()
        },
        status: Some(NodeStatus {
            addresses: Some(vec![NodeAddress {
                type_: "Hostname".into(),
                address: name,
            }]),
            allocatable: Some(resources.clone()),
            capacity: Some(resources),
            node_info: Some(NodeSystemInfo {
                architecture: architecture.into(),
                operating_system: "linux".into(),
                kubelet_version: KUBERNETES_VERSION.into(),
                container_runtime_version: format!(
                    "containerd://{}",
                    CONTAINERD_VERSION.trim_start_matches('v')
                ),
                ..NodeSystemInfo::default()
            }),
            ..NodeStatus::default()
        }),
        ..Node::default()
    }
}

/// kwok's configuration.
fn stages(fake: &FakeNodes) -> String {
    let shortest = fake.pull.start.as_millis();
    let failing = (fake.pull_failures * WEIGHTS).round();
    [NODE_STAGES, POD_STAGES, PREFETCH_STAGES]
        .join("\n---\n")
        .replace("@FAILING_STATUS@", FAILING_STATUS.trim_end())
        // In one line and within single quotes of YAML.
        .replace(
            "@MISSING_IMAGE@",
            &MISSING_IMAGE
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
        )
        .replace("@PULL_SHORTEST@", &shortest.to_string())
        .replace(
            "@PULL_LONGEST@",
            &fake.pull.end.as_millis().max(shortest).to_string(),
        )
        .replace("@FAILURE_WEIGHT@", &failing.to_string())
        .replace("@SUCCESS_WEIGHT@", &(WEIGHTS - failing).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_are_yaml_with_every_placeholder_filled() {
        let stages = stages(&FakeNodes {
            pull_failures: 0.25,
            ..FakeNodes::default()
        });
        let mut weights = BTreeMap::new();
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&stages).unwrap();
        for stage in documents {
            let name = stage
                .pointer("/metadata/name")
                .and_then(|name| name.as_str())
                .unwrap_or_default()
                .to_owned();
            weights.insert(
                name,
                stage
                    .pointer("/spec/weight")
                    .and_then(serde_json::Value::as_u64),
            );
        }
        assert!(
            !stages.contains('@') || stages.contains("%s@sha256"),
            "{stages}"
        );
        assert_eq!(weights["prefetch-running"], Some(7500));
        assert_eq!(weights["prefetch-fails"], Some(2500));
        assert!(weights.contains_key("missing-image"));
    }
}
