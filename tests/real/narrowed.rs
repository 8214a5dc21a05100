//! What a Deployment or a cluster's policy says about the nodes and the way to them.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::json;

use crate::cluster::{EVERY_NODE, cluster, deployment, until, waiting};

#[tokio::test]
async fn prefetch_pods_can_go_through_the_scheduler() {
    let Some(turn) = cluster().await else { return };
    let cluster = turn.as_ref().unwrap();
    cluster.set("HEADSTART_PIN=affinity").await;
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
    cluster.set("HEADSTART_PIN=node-name").await;
}

#[tokio::test]
async fn a_limit_keeps_the_node_that_runs_the_deployment_and_a_typo_is_said() {
    let Some(turn) = cluster().await else { return };
    let cluster = turn.as_ref().unwrap();
    cluster.namespace("narrowed", Some("enabled")).await;
    let (first, second) = (
        cluster.push("narrowed/app:1").await,
        cluster.push("narrowed/app:2").await,
    );
    let mut object = deployment("narrowed", "web", waiting(&first));
    // The only replica stays where it is: the new one has to wait for its end.
    object["spec"]["strategy"] = json!({ "type": "Recreate" });
    object["metadata"]["annotations"] = json!({ "headstart.dev/max-nodes": "one" });
    let said = cluster.apply(&object).await;
    until("the report of the typo", async || {
        !cluster
            .events("narrowed", "web", "InvalidAnnotation")
            .await
            .is_empty()
    })
    .await;
    assert!(
        cluster.events("narrowed", "web", "InvalidAnnotation").await[0]
            .contains("headstart.dev/max-nodes"),
        "{said}"
    );
    cluster
        .kubectl(&[
            "rollout",
            "status",
            "-n",
            "narrowed",
            "deployment/web",
            "--timeout=60s",
        ])
        .await;
    assert_eq!(
        cluster.creates_in("narrowed"),
        0,
        "nothing is prefetched until it is corrected"
    );

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
    cluster
        .kubectl(&[
            "annotate",
            "-n",
            "narrowed",
            "deployment/web",
            "headstart.dev/max-nodes=1",
            "--overwrite",
        ])
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
