//! headstart, or the API server, is away during a hold.

use testbed::control_plane::Component;

use super::{UNREACHABLE, Web};
use crate::cluster::{Cluster, HOLDS_OFF, alone, alone_until, until};

pub(super) async fn until_back(cluster: &Cluster) {
    let ready = cluster.headstart.wait_until_ready(cluster.control_plane());
    ready.await.unwrap();
}

#[tokio::test]
async fn a_hold_outlives_its_leader_and_a_crash_of_every_replica() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-leaders").await;
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    web.until_said("RolloutHeld", 1).await;
    let held = web.hold().await.unwrap();
    let first = cluster.leader().await;
    cluster
        .kubectl(&["delete", "pod", "-n", "headstart", &first])
        .await;
    until("another leader", async || {
        let now = cluster.leader().await;
        !now.is_empty() && now != first
    })
    .await;
    until_back(cluster).await;
    assert_eq!(web.hold().await, Some(held));

    // SIGKILL for all of them, with images on their way.
    let good = cluster.push("leaders/app:1").await;
    web.set_image(&good).await;
    let all = [
        "delete",
        "pods",
        "-n",
        "headstart",
        "--all",
        "--grace-period=0",
        "--force",
    ];
    cluster.kubectl(&all).await;
    until_back(cluster).await;
    until("the hold to end", async || web.hold().await.is_none()).await;
    web.until_complete().await;
    web.assert_free().await;
    web.delete().await;
}

#[tokio::test]
async fn a_hold_outlives_the_api_server() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-api-server").await;
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    web.until_said("RolloutHeld", 1).await;
    let held = web.hold().await.unwrap();
    cluster
        .control_plane()
        .restart(Component::ApiServer)
        .await
        .unwrap();
    until_back(cluster).await;
    assert_eq!(web.hold().await, Some(held));
    let good = cluster.push("api-server/app:1").await;
    web.set_image(&good).await;
    until("the hold to end", async || web.hold().await.is_none()).await;
    web.until_complete().await;
    web.delete().await;
}

#[tokio::test]
async fn switching_holds_off_ends_them() {
    let Some(turn) = alone_until(HOLDS_OFF).await else {
        return;
    };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-off").await;
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    web.until_said("RolloutHeld", 1).await;
    cluster.has_option(Some(HOLDS_OFF)).await;
    web.until_resumed("--hold=off").await;
    cluster.until_none_drains().await;
    web.kubectl(&["delete", "deployment", "web"]).await;
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    assert!(!web.is_paused().await);
    web.delete().await;
}
