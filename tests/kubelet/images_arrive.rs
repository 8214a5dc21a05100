//! Tests of headstart's purpose: images arrive on the nodes of a Deployment.

use serde_json::{Value, json};

use crate::cluster::{Cluster, EVERY_NODE, alone, deployment, shared, waiting};

async fn with_init_container(cluster: &Cluster, name: &str) -> (Value, [String; 2]) {
    let init = cluster.push(&format!("{name}/init:1")).await;
    let app = cluster.push(&format!("{name}/app:1")).await;
    let mut spec = waiting(&app);
    spec["initContainers"] = json!([{ "name": "init", "image": init, "args": ["end"] }]);
    (spec, [init, app])
}

#[tokio::test]
async fn a_new_deployment_puts_its_images_on_every_node_replica_or_not() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    cluster.namespace("arrive", Some("enabled")).await;
    let (spec, images) = with_init_container(cluster, "arrive").await;
    cluster.apply(&deployment("arrive", "web", spec)).await;
    cluster.until_prefetched("arrive", "web", 1).await;
    for image in &images {
        assert_eq!(cluster.nodes_with(image).await, EVERY_NODE, "{image}");
    }
    cluster.until_complete("arrive", "web").await;
    assert_eq!(cluster.creates_in("arrive"), 3, "one pod per node");
}

#[tokio::test]
async fn nodes_that_the_rollout_cannot_land_on_get_nothing() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("placement", Some("enabled")).await;
    let image = cluster.push("placement/app:1").await;
    cluster.nodes.label("node-1", "pool", "web").await.unwrap();
    cluster.nodes.label("node-2", "pool", "web").await.unwrap();
    cluster.kubectl(&["cordon", "node-1"]).await;
    cluster
        .kubectl(&["taint", "node", "node-2", "dedicated=web:NoSchedule"])
        .await;
    let mut spec = waiting(&image);
    spec["nodeSelector"] = json!({ "pool": "web" });
    spec["tolerations"] = json!([{ "key": "dedicated", "value": "web", "effect": "NoSchedule" }]);
    cluster.apply(&deployment("placement", "web", spec)).await;
    cluster.until_prefetched("placement", "web", 1).await;
    let started = cluster.events("placement", "web", "PrefetchStarted").await;
    cluster.kubectl(&["uncordon", "node-1"]).await;
    cluster
        .kubectl(&["taint", "node", "node-2", "dedicated-"])
        .await;

    assert_eq!(cluster.nodes_with(&image).await, ["node-2"]);
    assert!(
        started[0].contains("node-1: the node is cordoned"),
        "{started:?}"
    );
    assert!(
        started[0].contains("node-3: nodeSelector wants pool=web"),
        "{started:?}"
    );
}

#[tokio::test]
async fn an_update_of_an_image_prefetches_again_and_no_other_write_does() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("update", Some("enabled")).await;
    let (first, second) = (
        cluster.push("update/app:1").await,
        cluster.push("update/app:2").await,
    );
    cluster
        .apply(&deployment("update", "web", waiting(&first)))
        .await;
    cluster.until_prefetched("update", "web", 1).await;
    cluster.until_complete("update", "web").await;
    let (calls, creates) = (cluster.webhook_calls().await, cluster.creates_in("update"));

    for harmless in [
        &["scale", "-n", "update", "deployment/web", "--replicas=2"][..],
        &["annotate", "-n", "update", "deployment/web", "who=me"],
        &["label", "-n", "update", "deployment/web", "team=shop"],
        &["rollout", "restart", "-n", "update", "deployment/web"],
    ] {
        cluster.kubectl(harmless).await;
    }
    // Once it is through, the status has been written many times.
    cluster.until_complete("update", "web").await;
    assert_eq!(
        cluster.webhook_calls().await,
        calls,
        "no write but of an image calls headstart"
    );

    cluster
        .kubectl(&[
            "set",
            "image",
            "-n",
            "update",
            "deployment/web",
            &format!("app={second}"),
        ])
        .await;
    cluster.until_prefetched("update", "web", 2).await;
    assert_eq!(cluster.webhook_calls().await, calls + 1.0);
    assert_eq!(cluster.nodes_with(&second).await, EVERY_NODE);
    assert_eq!(
        (creates, cluster.creates_in("update")),
        (3, 6),
        "one pod per node and set of images"
    );
}
