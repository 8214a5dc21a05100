//! Tests of updates that are not held.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use headstart_core::api::well_known::{HELD_LABEL, HELD_UNTIL};

use super::{UNREACHABLE, Web};
use crate::cluster::{shared, until};

#[tokio::test]
async fn a_deployment_that_its_user_paused_stays_theirs() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-users-pause").await;
    let (first, second) = (
        cluster.push("pause/app:1").await,
        cluster.push("pause/app:2").await,
    );
    web.rolled_out(&first).await;
    web.kubectl(&["rollout", "pause", "deployment/web"]).await;
    web.set_image(&second).await;
    assert_eq!(web.hold().await, None);
    // The images come, and the pause stays as it is.
    cluster.until_prefetched(web.namespace, "web", 2).await;
    assert!(web.is_paused().await);
    assert_eq!(web.replica_sets().await, [first]);
    web.kubectl(&["rollout", "resume", "deployment/web"]).await;
    web.until_complete().await;
    web.delete().await;
}

#[tokio::test]
async fn a_dry_run_shows_the_hold_and_pulls_nothing() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-dry-run").await;
    let dry_run = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
    let manifest = web.manifest(UNREACHABLE).to_string();
    let object = cluster
        .control_plane()
        .kubectl_with_input(&dry_run, &manifest)
        .await
        .unwrap();
    for part in ["\"paused\": true", HELD_LABEL, HELD_UNTIL] {
        assert!(object.contains(part), "{part} in {object}");
    }
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    let note = &web.until_said("RolloutHeld", 1).await[0];
    assert!(note.contains("on 3 nodes"), "{note}");
    assert_eq!(
        web.said("PrefetchStarted").await.len(),
        1,
        "only of the second"
    );
    web.delete().await;
}

#[tokio::test]
async fn an_update_to_what_is_on_the_nodes_does_not_wait() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-warm").await;
    // Large enough to be among the images that a node reports.
    let image = cluster.image("warm/app:1").random_layer(40 << 20, 3);
    let warm = cluster
        .nodes
        .registry()
        .push("warm/app:1", &image)
        .await
        .unwrap();
    let other = cluster.push("warm/app:2").await;
    web.rolled_out(&warm).await;
    web.set_image(&other).await;
    web.until_complete().await;
    until("every node to report the image", async || {
        let nodes: Api<Node> = Api::all(cluster.control_plane().client().unwrap());
        let nodes = nodes.list(&ListParams::default()).await.unwrap();
        nodes.iter().all(|node| {
            let images = node
                .status
                .iter()
                .flat_map(|status| status.images.iter().flatten());
            images
                .flat_map(|image| image.names.iter().flatten())
                .any(|name| *name == warm)
        })
    })
    .await;
    let held = web.said("RolloutHeld").await.len();
    // A watch is a moment behind: a replica may not have received the last report yet. An update that is not held shows that it
    // has.
    until("an update that is not held", async || {
        web.set_image(&warm).await;
        let waited = web.is_held().await;
        web.until_complete().await;
        web.set_image(&other).await;
        web.until_complete().await;
        !waited
    })
    .await;
    assert!(held >= 2, "the first time each was held: {held}");
    web.delete().await;
}

#[tokio::test]
async fn without_replicas_there_is_nothing_to_wait_for() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-no-replicas").await;
    let mut manifest = web.manifest(&cluster.push("none/app:1").await);
    manifest["spec"]["replicas"] = json!(0);
    cluster.apply(&manifest).await;
    assert!(!web.is_paused().await);
    cluster.until_prefetched(web.namespace, "web", 1).await;
    web.delete().await;
}
