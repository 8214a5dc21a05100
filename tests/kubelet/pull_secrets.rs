//! Tests of a registry that asks for credentials: wrong pull secrets, and pull secrets that come late.

use serde_json::json;

use crate::cluster::{EVERY_NODE, deployment, shared, until, waiting, waiting_with_secret};

#[tokio::test]
async fn a_wrong_pull_secret_is_reported_with_image_node_and_the_registrys_answer() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    cluster.namespace("refused", Some("enabled")).await;
    let image = cluster.push_private("refused/app:1").await;
    cluster.pull_secret("refused", "not-the-password").await;
    let spec = waiting_with_secret(&image);
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
    assert!(
        !note.contains("not-the-password"),
        "the password is in {note:?}"
    );
    cluster
        .kubectl(&["delete", "deployment", "-n", "refused", "web"])
        .await;
}

#[tokio::test]
async fn a_pull_secret_that_comes_late_is_enough_without_a_change_of_the_deployment() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    cluster.namespace("late", Some("enabled")).await;
    let image = cluster.push_private("late/app:1").await;
    let mut object = deployment("late", "web", waiting_with_secret(&image));
    // It has rolled out at once: nothing but the second chance keeps the pods that failed.
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
    until("the report of the failure", async || {
        let failures = cluster.events("late", "web", "PrefetchFailed").await;
        failures.iter().any(|note| note.contains("(Unauthorized)"))
    })
    .await;
    cluster.right_pull_secret("late").await;
    cluster.until_prefetched("late", "web", 1).await;
    assert_eq!(cluster.nodes_with(&image).await, EVERY_NODE);
}

#[tokio::test]
async fn a_pull_secret_that_the_service_account_names_late_is_enough() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let namespace = "late-account";
    cluster.namespace(namespace, Some("enabled")).await;
    let image = cluster.push_private("late-account/app:1").await;
    let mut account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": namespace, "name": "builder" },
    });
    cluster.apply(&account).await;
    let mut spec = waiting(&image);
    spec["serviceAccountName"] = json!("builder");
    let mut object = deployment(namespace, "web", spec);
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
    until("the report of the failure", async || {
        let failures = cluster.events(namespace, "web", "PrefetchFailed").await;
        failures.iter().any(|note| note.contains("(Unauthorized)"))
    })
    .await;
    cluster.right_pull_secret(namespace).await;
    account["imagePullSecrets"] = json!([{ "name": "registry" }]);
    cluster.apply(&account).await;
    cluster.until_prefetched(namespace, "web", 1).await;
    assert_eq!(cluster.nodes_with(&image).await, EVERY_NODE);
}
