//! Tests of a rollout that does not wait: its first pods pull by themselves.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::SignedDuration;
use kube::api::ListParams;
use serde_json::json;

use crate::cluster::{Cluster, EVERY_NODE, alone, deployment, until, waiting};

/// The image of a registry that does not exist. Pods that need it stay on their node, and are about to start for as
/// long as the test takes.
const UNREACHABLE: &str = "127.0.0.1:1/race/app:1";
/// Ten seconds, as the timestamps of an API server show them at the least.
const PUT_OFF: SignedDuration = SignedDuration::from_secs(9);

#[tokio::test]
async fn nodes_where_the_rollout_pulls_come_last_and_one_does_not() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("race", Some("enabled")).await;
    // While headstart is away, so that the pods are bound for certain when it looks.
    cluster.stop_headstart().await;
    let mut spec = waiting(UNREACHABLE);
    spec["affinity"]["podAntiAffinity"] = json!({
        "requiredDuringSchedulingIgnoredDuringExecution": [
            { "labelSelector": { "matchLabels": { "app": "web" } }, "topologyKey": "kubernetes.io/hostname" },
        ],
    });
    let mut object = deployment("race", "web", spec);
    object["spec"]["replicas"] = json!(EVERY_NODE.len());
    cluster.apply(&object).await;
    until("a pod of the rollout on every node", async || {
        nodes(&of_the_rollout(cluster).await) == EVERY_NODE.map(str::to_owned).into()
    })
    .await;
    cluster.scale_headstart(2).await;
    until("prefetch pods on every node", async || {
        cluster.prefetch_pods("race", "web").await.len() == EVERY_NODE.len()
    })
    .await;
    let mut pods = cluster.prefetch_pods("race", "web").await;
    pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
    assert_eq!(nodes(&pods), EVERY_NODE.map(str::to_owned).into());
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().unwrap().0;
    let (first, others) = pods.split_first().unwrap();
    for other in others {
        let later = created(other).duration_since(created(first));
        assert!(later >= PUT_OFF, "{later:?}");
    }
    cluster
        .headstart
        .wait_until_ready(cluster.control_plane())
        .await
        .unwrap();
    let delete = ["delete", "deployment", "-n", "race", "web"];
    cluster.kubectl(&delete).await;
}

async fn of_the_rollout(cluster: &Cluster) -> Vec<Pod> {
    let selector = ListParams::default().labels("app=web");
    let pods = cluster.api::<Pod>("race").list(&selector).await.unwrap();
    pods.items
}

/// The nodes that pods are bound to.
fn nodes(pods: &[Pod]) -> BTreeSet<String> {
    let specs = pods.iter().filter_map(|pod| pod.spec.as_ref());
    specs.filter_map(|spec| spec.node_name.clone()).collect()
}
