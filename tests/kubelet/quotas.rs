//! Rollouts that need every place of a quota: they end as without headstart.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::{Cluster, deployment, shared, until, waiting};

/// Four pods that a rollout replaces one by one, with one more at a time.
fn four(namespace: &str, image: &str) -> Value {
    let mut object = deployment(namespace, "web", waiting(image));
    object["spec"]["replicas"] = json!(4);
    object["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    object
}

impl Cluster {
    /// Sets a quota, and waits until it is in force.
    async fn quota(&self, namespace: &str, resource: &str, hard: u64) {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "namespace": namespace, "name": "pods" },
            "spec": { "hard": { resource: hard.to_string() } },
        });
        self.apply(&quota).await;
        until("the quota to be in force", async || {
            let path = format!("jsonpath={{.status.hard.{}}}", resource.replace('/', "\\/"));
            let get = ["get", "resourcequota", "-n", namespace, "pods", "-o", &path];
            self.kubectl(&get).await == hard.to_string()
        })
        .await;
    }
}

/// E2 and E2b: only the surge has room, so nothing is prefetched and nothing waits.
async fn a_rollout_takes_the_last_place(cluster: &Cluster, namespace: &str, resource: &str) {
    cluster.namespace(namespace, Some("hold")).await;
    let first = cluster.push(&format!("{namespace}/app:1")).await;
    let second = cluster.push(&format!("{namespace}/app:2")).await;
    cluster.apply(&four(namespace, &first)).await;
    cluster.until_complete(namespace, "web").await;
    cluster.quota(namespace, resource, 5).await;
    // Finished prefetch pods are not kept beside a quota that counts them.
    until("the first prefetch pods to be gone", async || {
        cluster.prefetch_pods(namespace, "web").await.is_empty()
    })
    .await;
    let created = cluster.creates_in(namespace);
    let begun = Timestamp::now();
    cluster.apply(&four(namespace, &second)).await;
    cluster.until_complete(namespace, "web").await;
    let took = Timestamp::now().duration_since(begun);
    assert!(took.as_secs() < 60, "{took:?}");
    // Kubernetes itself may be refused the last place for a moment, as long as an old pod is not gone.
    assert_eq!(cluster.creates_in(namespace), created);
    let blocked = cluster.events(namespace, "web", "PrefetchBlocked").await;
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    let why = format!("{resource}=5, used by others 4, kept for rollouts 1");
    assert!(blocked[0].contains(&why), "{blocked:?}");
    cluster
        .kubectl(&["delete", "namespace", namespace, "--wait=false"])
        .await;
}

#[tokio::test]
async fn a_rollout_takes_the_last_place_of_a_quota_on_stored_pods() {
    let Some(turn) = shared().await else { return };
    a_rollout_takes_the_last_place(&turn, "tight-stored", "count/pods").await;
}

#[tokio::test]
async fn a_rollout_takes_the_last_place_of_a_quota_on_running_pods() {
    let Some(turn) = shared().await else { return };
    a_rollout_takes_the_last_place(&turn, "tight-running", "pods").await;
}

#[tokio::test]
async fn finished_prefetch_pods_make_room_for_a_quota_that_is_lowered_during_a_rollout() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    let namespace = "tight-lowered";
    cluster.namespace(namespace, Some("enabled")).await;
    let first = cluster.push("tight-lowered/app:1").await;
    let second = cluster.push("tight-lowered/app:2").await;
    let slow = |image: &str| {
        let mut object = four(namespace, image);
        object["spec"]["minReadySeconds"] = json!(3);
        object
    };
    cluster.apply(&slow(&first)).await;
    cluster.until_complete(namespace, "web").await;
    cluster.apply(&slow(&second)).await;
    until("prefetch pods that have finished", async || {
        let pods = cluster.prefetch_pods(namespace, "web").await;
        let finished = pods.iter().filter(|pod| {
            let status = pod.status.as_ref();
            status.and_then(|status| status.phase.as_deref()) == Some("Succeeded")
        });
        finished.count() >= 3
    })
    .await;
    cluster.quota(namespace, "count/pods", 5).await;
    cluster.until_complete(namespace, "web").await;
    cluster
        .kubectl(&["delete", "namespace", namespace, "--wait=false"])
        .await;
}
