//! Reads that a prefetch waits for: the nodes that have pods of a Deployment, and the pull secrets of its ServiceAccount.

use std::collections::BTreeSet;
use std::time::Duration;

use headstart_core::controller::command::PodFilter;
use headstart_core::scheduling::selector::Selector;
use headstart_core::workload::{DeploymentKey, Workload};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::timeout;

/// The limit for one read. It is short, because a prefetch waits for the answer and goes on without it.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit for the list of starting pods: enough for all but huge rollouts, and 2 MB at most.
const MAX_STARTING_PODS: u32 = 500;

/// Returns the nodes that have pods of a Deployment that pass the filter.
pub(super) async fn list_nodes(
    client: &Client,
    workload: &Workload,
    selector: &Selector,
    filter: PodFilter,
) -> kube::Result<BTreeSet<String>> {
    match filter {
        PodFilter::Running => nodes_with_running_pods(client, &workload.key, selector).await,
        PodFilter::Starting => nodes_with_starting_pods(client, workload, selector).await,
    }
}

/// Returns the answer to a read, or an error if there is none in time.
pub(super) async fn with_timeout<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, String> {
    match timeout(READ_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", READ_TIMEOUT.as_secs())),
    }
}

/// Returns the nodes that run pods of a Deployment.
pub(crate) async fn nodes_with_running_pods(
    client: &Client,
    key: &DeploymentKey,
    pods: &Selector,
) -> kube::Result<BTreeSet<String>> {
    let live = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = pods_of(client, key, pods, live).await?;
    Ok(pods.filter_map(|pod| pod.spec?.node_name).collect())
}

/// Returns the names of the pull secrets of a ServiceAccount; `None` if there is no such account.
pub(crate) async fn pull_secrets(
    client: &Client,
    namespace: &str,
    account: &str,
) -> kube::Result<Option<Vec<String>>> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = api.get_opt(account).await?;
    Ok(account.map(|account| secrets_of(&account)))
}

/// Returns the names of the pull secrets of a ServiceAccount.
pub(crate) fn secrets_of(account: &ServiceAccount) -> Vec<String> {
    let secrets = account.image_pull_secrets.iter().flatten();
    secrets
        .map(|secret| secret.name.clone())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Returns the nodes with starting pods of a Deployment that pull all its images.
async fn nodes_with_starting_pods(
    client: &Client,
    workload: &Workload,
    pods: &Selector,
) -> kube::Result<BTreeSet<String>> {
    let starting = ListParams::default()
        .fields("status.phase=Pending")
        .limit(MAX_STARTING_PODS);
    let pods = pods_of(client, &workload.key, pods, starting).await?;
    Ok(pods
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| {
            pod.spec
                .filter(|spec| workload.pod_pulls_all(spec))?
                .node_name
        })
        .collect())
}

async fn pods_of(
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
        let nodes = nodes_with_running_pods(&client, &key, &selector)
            .await
            .unwrap();
        assert_eq!(nodes, ["n1", "n2"].map(str::to_owned).into());
    }

    #[tokio::test]
    async fn a_node_pulls_where_a_pod_with_all_the_images_is_about_to_start() {
        let workload = headstart_core::testing::wants(&["app:2"]);
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
        let nodes = nodes_with_starting_pods(&client, &workload, &selector)
            .await
            .unwrap();
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
            let client = Client::new(server, "default");
            with_timeout(pull_secrets(&client, "shop", account)).await
        };
        let named = Some(["b", "a"].map(str::to_owned).to_vec());
        assert_eq!(asked("builder").await, Ok(named));
        assert_eq!(asked("gone").await, Ok(None));
        assert!(asked("forbidden").await.is_err());
    }
}
