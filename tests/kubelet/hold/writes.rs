//! Tests of the writes of users during a hold.

use serde_json::{Value, json};

use super::{UNREACHABLE, Web};
use crate::cluster::{shared, until};

/// As unreachable, and another image.
const UNREACHABLE_TOO: &str = "127.0.0.1:1/app:2";

#[tokio::test]
async fn a_users_resume_is_respected() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-by-hand").await;
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    web.until_said("RolloutHeld", 1).await;
    web.kubectl(&["rollout", "resume", "deployment/web"]).await;
    web.until_resumed("by somebody else").await;
    web.assert_free().await;
    until("a ReplicaSet", async || {
        web.replica_sets().await == [UNREACHABLE]
    })
    .await;
    // Applying it again is no reason to hold it again.
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    web.assert_free().await;
    web.delete().await;
}

#[tokio::test]
async fn applying_the_same_again_neither_ends_nor_restarts_a_hold() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-again").await;
    let manifest = web.manifest(UNREACHABLE);
    cluster.apply(&manifest).await;
    web.until_said("RolloutHeld", 1).await;
    let held = web.hold().await.unwrap();
    let ways: [(&str, &[&str]); 4] = [
        ("client-side", &["apply", "-f", "-"]),
        (
            "server-side",
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        ),
        (
            "as Argo CD",
            &[
                "apply",
                "--server-side",
                "--force-conflicts",
                "--field-manager=argocd-controller",
                "-f",
                "-",
            ],
        ),
        (
            "as Helm 4",
            &[
                "apply",
                "--server-side",
                "--force-conflicts",
                "--field-manager=helm",
                "-f",
                "-",
            ],
        ),
    ];
    for (how, arguments) in ways {
        let input = manifest.to_string();
        let applied = cluster
            .control_plane()
            .kubectl_with_input(arguments, &input);
        applied.await.unwrap();
        assert_eq!(web.hold().await, Some(held), "{how}");
    }
    // Helm 3 patches with the fields that have changed between two manifests, and with those that have drifted from the
    // newer.
    let three_way = json!({ "spec": { "template": manifest["spec"]["template"] } }).to_string();
    web.kubectl(&[
        "patch",
        "deployment",
        "web",
        "--type=strategic",
        "-p",
        &three_way,
    ])
    .await;
    assert_eq!(web.hold().await, Some(held), "as Helm 3");
    assert_eq!(web.said("RolloutHeld").await.len(), 1);

    let good = cluster.push("again/app:1").await;
    web.set_image(&good).await;
    web.until_resumed("on 3 of 3 nodes").await;
    web.until_complete().await;
    web.delete().await;
}

#[tokio::test]
async fn other_images_extend_a_hold_within_the_limit_of_the_first() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-extended").await;
    let first = cluster.push("extended/app:1").await;
    web.rolled_out(&first).await;
    web.set_image(UNREACHABLE).await;
    let held = web.hold().await.unwrap();
    assert!(held.paused);
    web.set_image(UNREACHABLE_TOO).await;
    assert_eq!(web.hold().await, Some(held));
    until("the word about the other image", async || {
        let notes = web.said("RolloutHeld").await;
        notes.iter().any(|note| note.contains(UNREACHABLE_TOO))
    })
    .await;
    let last = cluster.push("extended/app:2").await;
    web.set_image(&last).await;
    assert_eq!(web.hold().await, Some(held));
    until("the hold to end", async || web.hold().await.is_none()).await;
    web.until_complete().await;
    let mut sets = web.replica_sets().await;
    sets.sort();
    assert_eq!(
        sets,
        [first, last],
        "nothing was made of the images in between"
    );
    web.delete().await;
}

#[tokio::test]
async fn a_rollback_during_a_hold_goes_back_to_what_runs() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-rollback").await;
    let first = cluster.push("rollback/app:1").await;
    web.rolled_out(&first).await;
    let pods = names(&web).await;
    web.set_image(UNREACHABLE).await;
    assert!(web.is_held().await);
    web.set_image(&first).await;
    until("the hold to end", async || web.hold().await.is_none()).await;
    web.until_complete().await;
    web.assert_free().await;
    assert_eq!(names(&web).await, pods, "the pods that ran all the while");
    web.delete().await;
}

#[tokio::test]
async fn a_manifest_that_pauses_is_left_paused_after_the_hold() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let paused = |mut manifest: Value| {
        manifest["spec"]["paused"] = json!(true);
        manifest.to_string()
    };
    let ways: [(&str, &[&str]); 2] = [
        ("hold-paused", &["apply", "-f", "-"]),
        (
            "hold-paused-ssa",
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        ),
    ];
    for (namespace, arguments) in ways {
        let web = Web::new(cluster, namespace).await;
        cluster.apply(&web.manifest(UNREACHABLE)).await;
        web.until_said("RolloutHeld", 1).await;
        let input = paused(web.manifest(UNREACHABLE));
        let applied = cluster
            .control_plane()
            .kubectl_with_input(arguments, &input);
        applied.await.unwrap();
        let good = cluster.push(&format!("{namespace}/app:1")).await;
        web.set_image(&good).await;
        web.until_said("RolloutLeftPaused", 1).await;
        until("the marks to be gone", async || web.hold().await.is_none()).await;
        assert!(web.is_paused().await, "{namespace}");
        web.delete().await;
    }
}

#[tokio::test]
async fn what_scales_a_deployment_works_during_a_hold() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-scaled").await;
    let first = cluster.push("scaled/app:1").await;
    web.rolled_out(&first).await;
    web.set_image(UNREACHABLE).await;
    let held = web.hold().await.unwrap();
    // Without metrics it still sees to the minimum.
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "namespace": web.namespace, "name": "web" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "minReplicas": 3, "maxReplicas": 5,
            "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } } }],
        },
    });
    cluster.apply(&autoscaler).await;
    until("three available pods of the old image", async || {
        let status = web.stored().await.status.unwrap_or_default();
        status.available_replicas == Some(3)
    })
    .await;
    assert_eq!(web.replica_sets().await, [first]);
    assert_eq!(web.hold().await, Some(held));
    let good = cluster.push("scaled/app:2").await;
    web.set_image(&good).await;
    web.until_resumed("on 3 of 3 nodes").await;
    web.until_complete().await;
    assert_eq!(web.stored().await.spec.unwrap().replicas, Some(3));
    web.delete().await;
}

async fn names(web: &Web<'_>) -> Vec<String> {
    let pods = web.pods().await.into_iter();
    let mut names: Vec<String> = pods.filter_map(|pod| pod.metadata.name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_manifest_that_names_the_pause_without_pausing_is_not_held() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-unpaused").await;
    let mut manifest = web.manifest(UNREACHABLE);
    manifest["spec"]["paused"] = json!(false);
    let apply = async |manifest: &Value, arguments: &[&str]| {
        let input = manifest.to_string();
        let applied = cluster
            .control_plane()
            .kubectl_with_input(arguments, &input);
        applied.await.unwrap()
    };
    let by_server: [&str; 5] = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    apply(&manifest, &by_server).await;
    assert_eq!(web.hold().await, None);
    web.assert_free().await;
    web.delete().await;

    // During a hold it ends the hold, also with other images.
    let web = Web::new(cluster, "hold-unpaused-later").await;
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    web.until_said("RolloutHeld", 1).await;
    manifest["metadata"]["namespace"] = json!(web.namespace);
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!(UNREACHABLE_TOO);
    apply(&manifest, &by_server).await;
    assert_eq!(web.hold().await, None);
    web.assert_free().await;
    web.delete().await;
}

#[tokio::test]
async fn an_update_that_ends_a_hold_leaves_the_pause_of_a_user() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let good = cluster.push("hold-another-pause/app:1").await;
    let web = Web::new(cluster, "hold-another-pause").await;
    web.rolled_out(&good).await;
    web.set_image(UNREACHABLE).await;
    assert!(web.is_held().await);
    let pause = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": web.namespace, "name": "web" }, "spec": { "paused": true },
    });
    let by_server: [&str; 5] = ["apply", "--server-side", "--field-manager=user", "-f", "-"];
    let input = pause.to_string();
    let paused = cluster
        .control_plane()
        .kubectl_with_input(&by_server, &input);
    paused.await.unwrap();
    // Its images are on the nodes: there is nothing to wait for.
    web.set_image(&good).await;
    until("the hold to end", async || web.hold().await.is_none()).await;
    assert!(web.is_paused().await);
    web.delete().await;
}
