//! A node is drained while a prefetch pod hangs there.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use crate::cluster::{
    BY_CONTAINER, Cluster, EVERY_NODE, alone, alone_with, deployment, until, waiting,
};

const NODE: &str = "node-3";
/// The longest time for a drain.
const MOST: Duration = Duration::from_secs(10);

/// The prefetch pods of the Deployment on a node.
async fn pods_on(cluster: &Cluster, namespace: &str, node: &str) -> Vec<Pod> {
    let pods = cluster.prefetch_pods(namespace, "web").await.into_iter();
    let on_node = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        spec.is_some_and(|spec| spec.node_name.as_deref() == Some(node))
    };
    pods.filter(on_node).collect()
}

/// Drains a node as an operator does. `--pod-selector` leaves headstart itself there.
async fn drain(cluster: &Cluster) -> anyhow::Result<String> {
    let arguments = [
        "drain",
        NODE,
        "--ignore-daemonsets",
        "--timeout=10s",
        "--pod-selector=headstart.dev/deployment=web",
    ];
    cluster.control_plane().kubectl(&arguments).await
}

/// A Deployment whose prefetch pods hang on every node: nothing listens where its image is.
async fn hangs(cluster: &Cluster, namespace: &str) {
    cluster.namespace(namespace, Some("enabled")).await;
    let mut object = deployment(namespace, "web", waiting("127.0.0.1:1/app:1"));
    object["spec"]["replicas"] = serde_json::json!(0);
    cluster.apply(&object).await;
    until(
        "the kubelet's word that the image cannot be pulled",
        async || {
            let pods = pods_on(cluster, namespace, NODE).await;
            let status = |pod: &Pod| pod.status.as_ref()?.start_time.clone();
            !pods.is_empty() && pods.iter().all(|pod| status(pod).is_some())
        },
    )
    .await;
}

/// Asserts that no pod of the Deployment is left on the node, that none comes back while it is cordoned, and that one comes
/// when it is not any more.
async fn assert_gone_until_uncordoned(cluster: &Cluster, namespace: &str) {
    until("the pod to be gone", async || {
        pods_on(cluster, namespace, NODE).await.is_empty()
    })
    .await;
    for node in &EVERY_NODE[..2] {
        assert_eq!(pods_on(cluster, namespace, node).await.len(), 1, "{node}");
    }
    assert!(pods_on(cluster, namespace, NODE).await.is_empty());
    cluster.kubectl(&["uncordon", NODE]).await;
    until("a pod on the node that stays after all", async || {
        pods_on(cluster, namespace, NODE).await.len() == 1
    })
    .await;
    let delete = ["delete", "namespace", namespace, "--wait=false"];
    cluster.kubectl(&delete).await;
}

#[tokio::test]
async fn a_prefetch_pod_that_hangs_does_not_stop_a_drain() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    hangs(cluster, "drained").await;
    let started = Instant::now();
    let drained = drain(cluster).await;
    let took = started.elapsed();
    drop(drained.unwrap());
    assert!(took < MOST, "{took:?}");
    assert_gone_until_uncordoned(cluster, "drained").await;
}

#[tokio::test]
async fn a_prefetch_pod_with_local_storage_goes_with_the_cordon() {
    let Some(turn) = alone_with(Some(BY_CONTAINER)).await else {
        return;
    };
    let cluster = &*turn;
    hangs(cluster, "drained-storage").await;
    let started = Instant::now();
    // kubectl refuses to delete pods with an emptyDir. The first attempt may list the pod before it is gone.
    until("the drain to pass", async || drain(cluster).await.is_ok()).await;
    let took = started.elapsed();
    assert!(took < MOST, "{took:?}");
    assert_gone_until_uncordoned(cluster, "drained-storage").await;
}
