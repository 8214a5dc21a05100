//! What a registry answers to those it does not know.

use serde_json::json;

use crate::cluster::{cluster, deployment, until, waiting};

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
    cluster.pull_secret("refused", "not-the-password").await;
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
    assert!(
        !note.contains("not-the-password"),
        "the password is in {note:?}"
    );
    cluster
        .kubectl(&["delete", "deployment", "-n", "refused", "web"])
        .await;
}
