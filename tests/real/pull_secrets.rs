//! Images that a registry gives to those it knows.

use serde_json::json;
use testbed::registry::Credentials;

use crate::cluster::{Cluster, cluster, deployment, until, waiting};

async fn secret(cluster: &Cluster, namespace: &str, password: &str) {
    let registry = cluster.nodes.private_registry();
    let Credentials { username, .. } = registry.credentials().unwrap();
    cluster
        .kubectl(&[
            "create",
            "secret",
            "docker-registry",
            "registry",
            "-n",
            namespace,
            &format!("--docker-server={}", registry.address()),
            &format!("--docker-username={username}"),
            &format!("--docker-password={password}"),
        ])
        .await;
}

#[tokio::test]
async fn a_private_image_arrives_with_the_deployments_own_pull_secret() {
    let Some(turn) = cluster().await else { return };
    let cluster = turn.as_ref().unwrap();
    cluster.namespace("private", Some("enabled")).await;
    let registry = cluster.nodes.private_registry();
    let image = registry
        .push("private/app:1", &cluster.image("private/app:1"))
        .await
        .unwrap();
    secret(
        cluster,
        "private",
        &registry.credentials().unwrap().password,
    )
    .await;
    let mut spec = waiting(&image);
    spec["imagePullSecrets"] = json!([{ "name": "registry" }]);
    cluster.apply(&deployment("private", "web", spec)).await;
    cluster.until_prefetched("private", "web", 1).await;
    assert_eq!(cluster.nodes_with(&image).await.len(), 3);
}

#[tokio::test]
async fn a_wrong_pull_secret_is_reported_with_image_node_and_the_registrys_answer() {
    let Some(turn) = cluster().await else { return };
    let cluster = turn.as_ref().unwrap();
    cluster.namespace("refused", Some("enabled")).await;
    let registry = cluster.nodes.private_registry();
    let image = registry
        .push("refused/app:1", &cluster.image("refused/app:1"))
        .await
        .unwrap();
    secret(cluster, "refused", "wrong").await;
    let mut spec = waiting(&image);
    spec["imagePullSecrets"] = json!([{ "name": "registry" }]);
    cluster.apply(&deployment("refused", "web", spec)).await;
    until("the report of the failure", async || {
        !cluster
            .events("refused", "web", "PrefetchFailed")
            .await
            .is_empty()
    })
    .await;
    let note = &cluster.events("refused", "web", "PrefetchFailed").await[0];
    for part in [image.as_str(), "on node node-", "401 Unauthorized"] {
        assert!(note.contains(part), "{part:?} is missing in {note:?}");
    }
    assert!(!note.contains("wrong"), "the password is in {note:?}");
    cluster
        .kubectl(&["delete", "deployment", "-n", "refused", "web"])
        .await;
}
