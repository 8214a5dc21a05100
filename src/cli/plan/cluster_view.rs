//! The nodes to plan for, from a file or the cluster, and the pods on them.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::input::ManifestFile;
use super::namespaces::Namespaces;
use crate::cli::UsageError;
use crate::driver::list_pods::nodes_with_running_pods;
use headstart_core::plan::PlacementContext;
use headstart_core::pod::PodSettings;
use headstart_core::scheduling::image_sizes::ImageSizes;
use headstart_core::scheduling::labels::Labels;
use headstart_core::scheduling::node::NodeInfo;
use headstart_core::workload::{DeploymentKey, Workload};

/// Nodes per page of the list.
const PAGE_SIZE: u32 = 500;
/// The limit for one answer of the cluster.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The command that writes a file of nodes, for messages.
const WRITE_NODES: &str = "write it with: kubectl get nodes -o yaml";

/// The part of the cluster that plans read.
#[derive(Debug, Default)]
pub(super) struct ClusterView {
    pub(super) nodes: Vec<NodeInfo>,
    pub(super) namespaces: Namespaces,
    /// The running pods of a file.
    pods: Vec<RunningPod>,
    /// From the cluster: the nodes with running pods of each Deployment that limits its nodes.
    running_on: HashMap<DeploymentKey, BTreeSet<String>>,
}

#[derive(Debug)]
struct RunningPod {
    namespace: String,
    node: String,
    labels: Labels,
}

impl ClusterView {
    /// Reads the nodes, pods, namespaces and ServiceAccounts of a file. `namespace` applies to objects that name none.
    pub(super) fn from_file(found: &ManifestFile, namespace: &str) -> Result<Self, UsageError> {
        if let Some(broken) = found.broken.first() {
            return Err(UsageError(format!("{broken}; {WRITE_NODES}")));
        }
        let nodes = all::<Node>(found)?;
        if nodes.is_empty() {
            return Err(UsageError(format!(
                "no Node in {}; {WRITE_NODES}",
                found.name
            )));
        }
        let pods = all::<Pod>(found)?;
        let mut namespaces = Namespaces::default();
        namespaces.add(all(found)?, all(found)?, namespace);
        Ok(Self {
            namespaces,
            nodes: nodes.iter().filter_map(NodeInfo::from_node).collect(),
            pods: pods.into_iter().filter_map(RunningPod::read).collect(),
            running_on: HashMap::new(),
        })
    }

    /// Lists the cluster's nodes. For Deployments that limit their nodes, also lists the nodes on which they run.
    pub(super) fn from_cluster(
        kubeconfig: Option<PathBuf>,
        workloads: &[Workload],
        settings: &PodSettings,
    ) -> Result<Self> {
        // Fails if a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let client = crate::run::client(kubeconfig)
                .await
                .context("no cluster to plan for; give --nodes FILE to plan without one")?;
            let mut view = Self {
                nodes: list_nodes(&client).await?,
                namespaces: answer(async {
                    Ok(Namespaces::ask(&client, workloads, settings).await)
                })
                .await?,
                ..Self::default()
            };
            for workload in workloads {
                let Some(pods) = workload.selector_for_max_nodes() else {
                    continue;
                };
                let key = &workload.key;
                let nodes = answer(nodes_with_running_pods(&client, key, pods))
                    .await
                    .with_context(|| format!("cannot list the pods of {key}"))?;
                view.running_on.insert(key.clone(), nodes);
            }
            Ok(view)
        })
    }

    /// Returns the context of one Deployment for the planner.
    pub(super) fn placement_context(
        &self,
        workload: &Workload,
        settings: &PodSettings,
    ) -> PlacementContext {
        let max = settings.max_image_size;
        let mut context = PlacementContext {
            sizes: ImageSizes::of(&workload.images, &self.nodes, max),
            ..PlacementContext::default()
        };
        for pod in &self.pods {
            *context.pods_on.entry(pod.node.clone()).or_default() += 1;
            let ours = pod.namespace == workload.key.namespace
                && workload
                    .selector_for_max_nodes()
                    .is_some_and(|pods| pods.matches(&pod.labels));
            if ours {
                context.running_on.insert(pod.node.clone());
            }
        }
        if let Some(nodes) = self.running_on.get(&workload.key) {
            context.running_on.extend(nodes.iter().cloned());
        }
        context
    }
}

/// Returns the objects of one kind. A wrong object is refused, because a plan without it would be another plan.
fn all<T: Resource + DeserializeOwned>(found: &ManifestFile) -> Result<Vec<T>, UsageError> {
    let objects = found
        .of_kind()
        .map(|(_, object)| object.map_err(UsageError));
    objects.collect()
}

impl RunningPod {
    /// Returns `None` unless the pod takes a slot of a node.
    fn read(pod: Pod) -> Option<Self> {
        let phase = pod.status.and_then(|status| status.phase);
        if matches!(phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        Some(Self {
            namespace: pod.metadata.namespace.unwrap_or_default(),
            node: pod.spec?.node_name.filter(|name| !name.is_empty())?,
            labels: Labels::from(&pod.metadata.labels.unwrap_or_default()),
        })
    }
}

async fn list_nodes(client: &Client) -> Result<Vec<NodeInfo>> {
    let api: Api<Node> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE_SIZE);
    let mut nodes = Vec::new();
    loop {
        let page = answer(api.list(&params))
            .await
            .context("cannot list the nodes")?;
        nodes.extend(page.items.iter().filter_map(NodeInfo::from_node));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(nodes),
        }
    }
}

async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T> {
    match timeout(ANSWER_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => bail!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{Request, Response};
    use headstart_core::testing::settings;
    use kube::client::Body;
    use serde_json::{Value, json};

    fn client(answer: fn(&str, &str) -> Value) -> Client {
        let server = tower::service_fn(move |request: Request<Body>| async move {
            let query = request.uri().query().unwrap_or_default();
            let answer = answer(request.uri().path(), query).to_string();
            Ok::<_, std::io::Error>(Response::new(Body::from(answer.into_bytes())))
        });
        Client::new(server, "default")
    }

    fn page(names: &[&str], token: &str) -> Value {
        let node = |name: &&str| json!({"metadata": {"name": name}});
        let items: Vec<Value> = names.iter().map(node).collect();
        json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {"continue": token}, "items": items})
    }

    #[tokio::test]
    async fn every_page_of_nodes_is_read() {
        let client = client(|path, query| {
            assert_eq!(path, "/api/v1/nodes");
            match query.contains("continue=second") {
                false => page(&["n1", "n2"], "second"),
                true => page(&["n3"], ""),
            }
        });
        let nodes = list_nodes(&client).await.unwrap();
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
    }

    #[test]
    fn pods_of_a_file_take_slots_and_tell_where_their_deployment_runs() {
        let pod = |namespace: &str, app: &str, node: &str, phase: &str| {
            let pod = serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": namespace, "labels": {"app": app}},
                "spec": {"containers": [], "nodeName": node}, "status": {"phase": phase},
            }));
            RunningPod::read(pod.unwrap())
        };
        let pods = [
            pod("shop", "web", "n1", "Running"),
            pod("shop", "web", "n2", "Succeeded"),
            pod("shop", "web", "", "Pending"),
            pod("shop", "other", "n1", "Running"),
            pod("elsewhere", "web", "n3", "Running"),
        ];
        let view = ClusterView {
            pods: pods.into_iter().flatten().collect(),
            ..ClusterView::default()
        };
        let deployment = |annotations: Value| {
            let deployment = serde_json::from_value(json!({
                "metadata": {"namespace": "shop", "name": "web", "annotations": annotations},
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {"containers": []}}},
            }));
            Workload::from_deployment(&deployment.unwrap()).unwrap()
        };
        let limited = deployment(json!({"headstart.dev/max-nodes": "2"}));
        let context = view.placement_context(&limited, &settings());
        assert_eq!(context.running_on, ["n1".to_owned()].into());
        let counts = [("n1".to_owned(), 2), ("n3".to_owned(), 1)];
        assert_eq!(context.pods_on, counts.into());
        let unlimited = view.placement_context(&deployment(json!({})), &settings());
        assert!(unlimited.running_on.is_empty());
    }
}
