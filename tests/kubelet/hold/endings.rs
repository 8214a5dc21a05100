//! The condition that ends a hold.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{UNREACHABLE, Web};
use crate::cluster::{EVERY_NODE, alone, shared, until};
use crate::slow_images::push_slow;

/// At this rate the rest of a pull takes minutes.
const TRICKLE: u64 = 64 << 10;
/// Shorter than the holds.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(3);

/// Returns whether it is still held: then there is no ReplicaSet of the image, and no deadline has passed.
async fn waits(web: &Web<'_>, image: &str) -> bool {
    let sets = web.replica_sets().await;
    // Asked afterwards: it was held when they were listed, if it still is.
    let held = web.is_held().await;
    if held {
        assert!(!sets.contains(&image.to_owned()), "made while it was held");
        let status = web.stored().await.status.unwrap_or_default();
        for condition in status.conditions.iter().flatten() {
            let reason = condition.reason.as_deref();
            assert_ne!(reason, Some("ProgressDeadlineExceeded"));
        }
    }
    held
}

/// Watches a held rollout for longer than its deadline, then lets its images through: it goes on, and every new pod
/// finds its image there.
async fn watch(web: &Web<'_>, image: &str) {
    let since = web.hold().await.unwrap().since.unwrap();
    let deadline = since + 2 * PROGRESS_DEADLINE;
    until("the rollout's deadline to be over", async || {
        assert!(waits(web, image).await, "its image is not there yet");
        Timestamp::now() > deadline
    })
    .await;
    let registry = web.cluster.nodes.registry();
    registry.limit_bandwidth(0).await.unwrap();
    until("the images to be on every node", async || {
        !waits(web, image).await
    })
    .await;
    assert_eq!(web.cluster.nodes_with(image).await, EVERY_NODE);
    web.until_complete().await;
    let pods = web.pods().await;
    let new = pods.iter().filter(|pod| {
        let spec = pod.spec.as_ref().unwrap();
        spec.containers[0].image.as_deref() == Some(image)
    });
    let names: Vec<_> = new.filter_map(|pod| pod.metadata.name.as_deref()).collect();
    let replicas = web.stored().await.spec.unwrap().replicas;
    assert_eq!(i32::try_from(names.len()).ok(), replicas, "{names:?}");
    for name in names {
        let said = || web.cluster.pulled(web.namespace, name);
        until("the kubelet's word about the image", async || {
            !said().await.is_empty()
        })
        .await;
        let said = said().await;
        assert!(said[0].contains("already present on machine"), "{said:?}");
    }
}

#[tokio::test]
async fn a_rollout_waits_for_its_images_and_every_new_pod_finds_them() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-until-warm").await;
    let first = push_slow(cluster, "hold/app:1", 1, TRICKLE).await;
    let mut manifest = web.manifest(&first);
    manifest["spec"]["replicas"] = json!(4);
    manifest["spec"]["progressDeadlineSeconds"] = json!(PROGRESS_DEADLINE.as_secs());
    let created = cluster.apply(&manifest).await;
    assert!(created.contains("created"), "{created}");
    assert!(web.is_held().await);
    watch(&web, &first).await;

    let old: BTreeSet<String> = names(&web).await;
    let second = push_slow(cluster, "hold/app:2", 2, TRICKLE).await;
    web.set_image(&second).await;
    assert!(web.is_held().await);
    // Old pods go on serving untouched.
    let held = web.until_said("RolloutHeld", 2).await;
    assert!(
        held.iter()
            .any(|note| note.contains("3 nodes") && note.contains(&second)),
        "{held:?}"
    );
    assert_eq!(names(&web).await, old);
    watch(&web, &second).await;
    let resumed = web.until_said("RolloutResumed", 2).await;
    assert!(
        resumed.iter().all(|note| note.contains("on 3 of 3 nodes")),
        "{resumed:?}"
    );
    web.assert_free().await;
    web.delete().await;
}

async fn names(web: &Web<'_>) -> BTreeSet<String> {
    let pods = web.pods().await.into_iter();
    pods.filter_map(|pod| pod.metadata.name).collect()
}

#[tokio::test]
async fn an_image_that_does_not_exist_lets_the_rollout_show_it() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-missing").await;
    let missing = format!("{}/hold/missing:1", cluster.nodes.registry().address());
    let before = Timestamp::now();
    cluster.apply(&web.manifest(&missing)).await;
    web.until_resumed("an image cannot be had").await;
    let took = Timestamp::now().duration_since(before);
    assert!(took.as_secs() < 30, "{took:?}");
    let note = web.said("RolloutResumed").await.remove(0);
    assert!(
        note.contains(&missing) && note.contains("not found"),
        "{note}"
    );
    until("Kubernetes' own word of it", async || {
        let pods = web.pods().await;
        let states = pods.iter().filter_map(|pod| {
            let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
            containers[0]
                .state
                .as_ref()?
                .waiting
                .as_ref()?
                .reason
                .clone()
        });
        states
            .into_iter()
            .any(|reason| reason.contains("ImagePull"))
    })
    .await;

    // It is a fix now that helps, and a fix does not wait.
    let good = cluster.push("hold/fixed:1").await;
    web.set_image(&good).await;
    assert!(!web.is_paused().await);
    web.until_complete().await;
    assert_eq!(web.said("RolloutHeld").await.len(), 1);
    web.delete().await;
}

#[tokio::test]
async fn a_hold_ends_when_its_time_is_up() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-deadline").await;
    let said = cluster
        .apply(&web.annotated(UNREACHABLE, "hold-timeout", "15s"))
        .await;
    assert!(said.contains("created"), "{said}");
    let held = web.hold().await.unwrap();
    let lasts = held.until.unwrap().duration_since(held.since.unwrap());
    assert_eq!(lasts.as_secs(), 15);
    web.until_resumed("the time is up; its images are on 0 of 3 nodes")
        .await;
    assert!(Timestamp::now() >= held.until.unwrap());
    web.assert_free().await;
    web.delete().await;
}

#[tokio::test]
async fn a_hold_ends_when_nothing_can_be_prefetched() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-nothing").await;
    cluster.allow_no_pods(web.namespace).await;
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    web.until_resumed("quota no-pods leaves no place").await;

    let mut nowhere = web.manifest(UNREACHABLE);
    nowhere["metadata"]["name"] = json!("nowhere");
    nowhere["spec"]["template"]["spec"]["nodeSelector"] = json!({ "no": "such-node" });
    cluster.apply(&nowhere).await;
    until("the word that there is no node", async || {
        let notes = cluster
            .events(web.namespace, "nowhere", "RolloutResumed")
            .await;
        notes.iter().any(|note| note.contains("no node"))
    })
    .await;
    web.delete().await;
}

#[tokio::test]
async fn a_hold_ends_when_it_is_no_longer_asked_for() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let web = Web::new(cluster, "hold-unasked").await;
    cluster.apply(&web.manifest(UNREACHABLE)).await;
    web.until_said("RolloutHeld", 1).await;
    let label = "headstart.dev/prefetch=enabled";
    cluster
        .kubectl(&["label", "--overwrite", "namespace", web.namespace, label])
        .await;
    web.until_resumed("does not say hold any more").await;
    web.assert_free().await;
    web.delete().await;
}
