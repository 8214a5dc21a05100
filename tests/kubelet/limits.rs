//! Namespaces that ration what may run in them.

use serde_json::json;

use crate::cluster::{Cluster, EVERY_NODE, alone, deployment, shared, until, waiting};

#[tokio::test]
async fn a_full_quota_is_said_once_and_not_run_against() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("full", Some("enabled")).await;
    cluster.allow_no_pods("full").await;
    let image = cluster.push("full/app:1").await;
    let mut object = deployment("full", "web", waiting(&image));
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
    until("the report of the quota", async || {
        !cluster
            .events("full", "web", "PrefetchBlocked")
            .await
            .is_empty()
    })
    .await;
    let note = &cluster.events("full", "web", "PrefetchBlocked").await[0];
    assert!(
        note.contains("quota no-pods leaves no place for a prefetch pod"),
        "{note}"
    );

    // A create that is sent again and again shows while another prefetch runs from its begin to its end.
    cluster.namespace("not-full", Some("enabled")).await;
    cluster
        .apply(&deployment(
            "not-full",
            "web",
            waiting(&cluster.push("not-full/app:1").await),
        ))
        .await;
    cluster.until_prefetched("not-full", "web", 1).await;
    assert_eq!(cluster.creates_in("full"), 0, "no attempt is refused");
    assert_eq!(
        cluster.events("full", "web", "PrefetchBlocked").await.len(),
        1
    );
    cluster
        .kubectl(&["delete", "deployment", "-n", "full", "web"])
        .await;
}

#[tokio::test]
async fn a_limit_range_is_no_obstacle() {
    let Some(turn) = shared().await else { return };
    a_limit_range_is_no_obstacle_to(&turn, "image-volume").await;
}

#[tokio::test]
async fn prefetch_pods_ask_for_what_a_limit_range_wants() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    cluster.namespace("floor", Some("enabled")).await;
    let both = |cpu: &str, memory: &str| json!({ "cpu": cpu, "memory": memory });
    let container = json!({
        "type": "Container", "min": both("10m", "16Mi"), "max": both("50m", "32Mi"),
        "maxLimitRequestRatio": both("2", "2"),
    });
    let pod = json!({ "type": "Pod", "max": both("200m", "96Mi") });
    cluster.limit_range("floor", json!([container, pod])).await;
    let image = cluster.push("floor/app:1").await;
    let mut object = deployment("floor", "web", waiting(&image));
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
    cluster.until_prefetched("floor", "web", 1).await;
    assert_eq!(cluster.nodes_with(&image).await, EVERY_NODE);
}

#[tokio::test]
async fn a_limit_range_that_no_prefetch_pod_meets_ends_a_hold_at_once() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    cluster.namespace("vast", Some("hold")).await;
    let vast = json!([{ "type": "Container", "min": { "memory": "1Gi" } }]);
    cluster.limit_range("vast", vast).await;
    let mut spec = waiting(&cluster.push("vast/app:1").await);
    spec["containers"][0]["resources"]["requests"]["memory"] = json!("1Gi");
    cluster.apply(&deployment("vast", "web", spec)).await;
    until("the rollout to go on", async || {
        !cluster
            .events("vast", "web", "RolloutResumed")
            .await
            .is_empty()
    })
    .await;
    let notes = cluster.events("vast", "web", "PrefetchBlocked").await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    let why = "each container needs 1024Mi of memory, and prefetch pods ask for at most 512Mi";
    assert!(notes[0].contains(why), "{notes:?}");
    assert_eq!(cluster.creates_in("vast"), 0);
    cluster
        .kubectl(&["delete", "deployment", "-n", "vast", "web"])
        .await;
}

/// However headstart pulls: `method` makes the names.
pub(crate) async fn a_limit_range_is_no_obstacle_to(cluster: &Cluster, method: &str) {
    let namespace = &format!("ranged-{method}");
    cluster.namespace(namespace, Some("enabled")).await;
    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": { "namespace": namespace, "name": "small" },
        "spec": { "limits": [{
            "type": "Container",
            "max": { "cpu": "500m", "memory": "256Mi" },
            "default": { "cpu": "200m", "memory": "128Mi" },
            "defaultRequest": { "cpu": "100m", "memory": "64Mi" },
        }] },
    });
    cluster.apply(&range).await;
    let image = cluster.push(&format!("{namespace}/app:1")).await;
    cluster
        .apply(&deployment(namespace, "web", waiting(&image)))
        .await;
    cluster.until_prefetched(namespace, "web", 1).await;
    assert_eq!(cluster.nodes_with(&image).await, EVERY_NODE);
}
