//! Tests of a Deployment's limit on its nodes, and of prefetch pods that go through the scheduler.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::json;

use crate::cluster::{AFFINITY, EVERY_NODE, alone_with, deployment, shared, until, waiting};

#[tokio::test]
async fn prefetch_pods_can_go_through_the_scheduler() {
    let Some(turn) = alone_with(Some(AFFINITY)).await else {
        return;
    };
    let cluster = &*turn;
    cluster.namespace("scheduled", Some("enabled")).await;
    let image = cluster.push("scheduled/app:1").await;
    let mut object = deployment("scheduled", "web", waiting(&image));
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
    cluster.until_prefetched("scheduled", "web", 1).await;
    assert_eq!(cluster.nodes_with(&image).await, EVERY_NODE);
    let scheduled = "involvedObject.kind=Pod,reason=Scheduled";
    let events = cluster
        .kubectl(&[
            "get",
            "events",
            "-n",
            "scheduled",
            "--field-selector",
            scheduled,
            "-o",
            "name",
        ])
        .await;
    assert_eq!(
        events.lines().count(),
        EVERY_NODE.len(),
        "the scheduler bound them: {events}"
    );
}

#[tokio::test]
async fn a_limit_keeps_the_node_that_runs_the_deployment_and_a_typo_is_refused() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    cluster.namespace("narrowed", Some("enabled")).await;
    let (first, second) = (
        cluster.push("narrowed/app:1").await,
        cluster.push("narrowed/app:2").await,
    );
    let mut object = deployment("narrowed", "web", waiting(&first));
    object["metadata"]["annotations"] = json!({ "headstart.dev/max-nodes": "one" });
    let create = cluster
        .control_plane()
        .kubectl_with_input(&["create", "-f", "-"], &object.to_string())
        .await;
    let refused = create.unwrap_err().to_string();
    assert!(
        refused.contains("headstart.dev/max-nodes=\"one\": use a number such as 50"),
        "{refused}"
    );

    object["metadata"]["annotations"] = json!({ "headstart.dev/max-nodes": "1" });
    cluster.apply(&object).await;
    cluster.until_complete("narrowed", "web").await;
    let pods = cluster
        .api::<Pod>("narrowed")
        .list(&ListParams::default().labels("app=web"))
        .await
        .unwrap();
    let runs_on = pods.items[0]
        .spec
        .as_ref()
        .unwrap()
        .node_name
        .clone()
        .unwrap();
    // Paused, so that the replica stays where it is and no other comes.
    cluster
        .kubectl(&["rollout", "pause", "-n", "narrowed", "deployment/web"])
        .await;
    cluster
        .kubectl(&[
            "set",
            "image",
            "-n",
            "narrowed",
            "deployment/web",
            &format!("app={second}"),
        ])
        .await;
    until("the prefetch of the second image", async || {
        let started = cluster.events("narrowed", "web", "PrefetchStarted").await;
        started.iter().any(|note| note.contains(&second))
    })
    .await;
    let started = cluster.events("narrowed", "web", "PrefetchStarted").await;
    let note = started.iter().find(|note| note.contains(&second)).unwrap();
    assert!(note.contains("to 1 node:"), "{note}");
    assert!(
        !note.contains(&format!("{runs_on}: ")),
        "the node that runs it is not skipped: {note}"
    );
}
