//! What is asked of the API server about one Deployment: where its own pods are, for plans that depend on it and for nodes where
//! the rollout pulls by itself, and which pull secrets its ServiceAccount has.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use headstart_core::scheduling::selector::Selector;
use headstart_core::workload::{DeploymentKey, Workload};

/// How long the API server may take to list the pods of one Deployment: its rollout waits for nothing, its prefetch for this.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// Lists in flight at most: thousands of Deployments may begin to roll out at once.
const LISTS: usize = 16;
/// How many of its pods are looked through that are about to start: enough for all but huge rollouts, and 2 MB at most.
const MOST_STARTING: u32 = 500;

/// Looks where a Deployment's own pods are, with a bound on how many lists are in flight.
#[derive(Clone)]
pub struct Whereabouts {
    client: Client,
    /// Lists in flight.
    lists: Arc<Semaphore>,
}

impl Whereabouts {
    /// Nothing is asked yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            lists: Arc::new(Semaphore::new(LISTS)),
        }
    }

    /// The nodes on which pods of a Deployment are now. Where that cannot be learnt the plan does without.
    pub async fn nodes_running(&self, key: &DeploymentKey, pods: &Selector) -> BTreeSet<String> {
        self.or_none(key, nodes_running(&self.client, key, pods))
            .await
    }

    /// The nodes on which pods of a Deployment are about to start that bring all its images; of the first
    /// 500 pods. Where that cannot be learnt, none.
    pub async fn nodes_pulling(&self, workload: &Workload, pods: &Selector) -> BTreeSet<String> {
        self.or_none(&workload.key, nodes_pulling(&self.client, workload, pods))
            .await
    }

    /// The names of the pull secrets of a ServiceAccount; none if there is no such account, `None` if that cannot be learnt.
    pub async fn pull_secrets(&self, key: &DeploymentKey, account: &str) -> Option<Vec<String>> {
        match self
            .answered(pull_secrets(&self.client, &key.namespace, account))
            .await
        {
            Ok(Some(secrets)) => Some(secrets),
            Ok(None) => {
                debug!(deployment = %key, %account, "there is no such ServiceAccount");
                Some(Vec::new())
            }
            Err(error) => {
                warn!(deployment = %key, %account, %error, "cannot read the ServiceAccount; going on without its pull secrets");
                None
            }
        }
    }

    /// What a list says, if it is answered in time.
    async fn or_none(
        &self,
        key: &DeploymentKey,
        nodes: impl Future<Output = kube::Result<BTreeSet<String>>>,
    ) -> BTreeSet<String> {
        self.answered(nodes).await.unwrap_or_else(|error| {
            warn!(deployment = %key, %error, "cannot list the pods; going on without");
            BTreeSet::new()
        })
    }

    async fn answered<T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, String> {
        let request = async {
            // Never closed.
            let _permit = self.lists.acquire().await;
            request.await
        };
        match timeout(LIST_TIMEOUT, request).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", LIST_TIMEOUT.as_secs())),
        }
    }
}

/// The nodes on which pods of a Deployment are now.
pub(crate) async fn nodes_running(
    client: &Client,
    key: &DeploymentKey,
    pods: &Selector,
) -> kube::Result<BTreeSet<String>> {
    let live = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = own_pods(client, key, pods, live).await?;
    Ok(pods.filter_map(|pod| pod.spec?.node_name).collect())
}

/// The names of the pull secrets of a ServiceAccount; `None` if there is no such account.
pub(crate) async fn pull_secrets(
    client: &Client,
    namespace: &str,
    account: &str,
) -> kube::Result<Option<Vec<String>>> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = api.get_opt(account).await?;
    Ok(account.map(|account| secrets_of(&account)))
}

/// The names of the pull secrets of a ServiceAccount.
pub(crate) fn secrets_of(account: &ServiceAccount) -> Vec<String> {
    let secrets = account.image_pull_secrets.iter().flatten();
    secrets
        .map(|secret| secret.name.clone())
        .filter(|name| !name.is_empty())
        .collect()
}

async fn nodes_pulling(
    client: &Client,
    workload: &Workload,
    pods: &Selector,
) -> kube::Result<BTreeSet<String>> {
    let starting = ListParams::default()
        .fields("status.phase=Pending")
        .limit(MOST_STARTING);
    let pods = own_pods(client, &workload.key, pods, starting).await?;
    Ok(pods
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| {
            pod.spec
                .filter(|spec| workload.pod_pulls_all(spec))?
                .node_name
        })
        .collect())
}

async fn own_pods(
    client: &Client,
    key: &DeploymentKey,
    pods: &Selector,
    which: ListParams,
) -> kube::Result<impl Iterator<Item = Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let list = api.list(&which.labels(&pods.to_string())).await?;
    Ok(list.items.into_iter())
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// A client of an API server that answers one list of pods, and what that list must ask for.
    fn answering(asked: &'static [&str], pods: serde_json::Value) -> Client {
        let server = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert_eq!(request.uri().path(), "/api/v1/namespaces/shop/pods");
            for part in asked {
                assert!(query.contains(part), "{part} in {query}");
            }
            let list = serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
            async move {
                Ok::<_, std::io::Error>(Response::new(Body::from(list.to_string().into_bytes())))
            }
        });
        Client::new(server, "default")
    }

    #[tokio::test]
    async fn the_nodes_of_a_deployment_are_those_of_its_live_pods() {
        let asked = &[
            "labelSelector=app%3Dweb%2Ctrack+notin+%28a%2Cb%29",
            "status.phase%21%3DFailed",
        ];
        let client = answering(
            asked,
            serde_json::json!([
                {"metadata": {"name": "1"}, "spec": {"containers": [], "nodeName": "n2"}},
                {"metadata": {"name": "2"}, "spec": {"containers": [], "nodeName": "n1"}},
                {"metadata": {"name": "3"}, "spec": {"containers": []}},
                {"metadata": {"name": "4"}, "spec": {"containers": [], "nodeName": "n1"}},
            ]),
        );
        let key = DeploymentKey {
            namespace: "shop".into(),
            name: "web".into(),
        };
        let selector = "app=web,track notin (a,b)".parse().unwrap();
        let nodes = nodes_running(&client, &key, &selector).await.unwrap();
        assert_eq!(nodes, ["n1", "n2"].map(str::to_owned).into());
    }

    #[tokio::test]
    async fn a_node_pulls_where_a_pod_with_all_the_images_is_about_to_start() {
        let workload = crate::cluster::verdict::tests::wants(&["app:2"]);
        let pod = |node: serde_json::Value, image: &str| {
            serde_json::json!({
                "metadata": {"name": "web"},
                "spec": {"nodeName": node, "containers": [{"name": "a", "image": image}, {"name": "proxy", "image": "mesh:1"}]},
            })
        };
        let mut going = pod("n4".into(), "app:2");
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let pods = serde_json::json!([
            pod("n1".into(), "docker.io/library/app:2"),
            pod("n2".into(), "app:1"),
            pod(serde_json::Value::Null, "app:2"),
            going,
        ]);
        let client = answering(
            &[
                "labelSelector=app%3Dweb",
                "status.phase%3DPending",
                "limit=500",
            ],
            pods,
        );
        let selector = "app=web".parse().unwrap();
        let nodes = nodes_pulling(&client, &workload, &selector).await.unwrap();
        assert_eq!(nodes, ["n1".to_owned()].into());
    }

    #[tokio::test]
    async fn the_pull_secrets_of_a_service_account_are_those_that_it_names() {
        let asked = |account: &'static str| async move {
            let server = tower::service_fn(|request: Request<Body>| {
                let (code, answer) = match request.uri().path() {
                    "/api/v1/namespaces/shop/serviceaccounts/builder" => (
                        200,
                        serde_json::json!({"imagePullSecrets": [{"name": "b"}, {"name": ""}, {"name": "a"}]}),
                    ),
                    "/api/v1/namespaces/shop/serviceaccounts/forbidden" => (
                        403,
                        serde_json::json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403}),
                    ),
                    _ => (
                        404,
                        serde_json::json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}),
                    ),
                };
                let answer = Body::from(answer.to_string().into_bytes());
                let response = Response::builder().status(code).body(answer);
                async move { Ok::<_, std::io::Error>(response.unwrap()) }
            });
            let whereabouts = Whereabouts::new(Client::new(server, "default"));
            let key = DeploymentKey {
                namespace: "shop".into(),
                name: "web".into(),
            };
            whereabouts.pull_secrets(&key, account).await
        };
        let named = Some(["b", "a"].map(str::to_owned).to_vec());
        assert_eq!(asked("builder").await, named);
        assert_eq!(asked("gone").await, Some(Vec::new()));
        assert_eq!(asked("forbidden").await, None);
    }
}
