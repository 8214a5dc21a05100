//! Nodes that do not take pods.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::scale::cluster::{TestCluster, deployment, made_by_name, slice, until};

/// No fake kubelet looks after it: this test does.
const CROWDED: &str = "crowded";

async fn add_node(cluster: &TestCluster) {
    let mut node = cluster.nodes().get("fake-1").await.unwrap();
    node.metadata.annotations = None;
    node.metadata.name = Some(CROWDED.into());
    node.metadata.uid = None;
    node.metadata.resource_version = None;
    node.metadata.creation_timestamp = None;
    node.metadata.managed_fields = None;
    let labels = node.labels_mut();
    labels.insert("kubernetes.io/hostname".into(), CROWDED.into());
    labels.insert("slice".into(), CROWDED.into());
    let spec = node.spec.get_or_insert_default();
    spec.pod_cidr = None;
    spec.pod_cidrs = None;
    let node: Node = cluster
        .nodes()
        .create(&PostParams::default(), &node)
        .await
        .unwrap();
    cluster.set_ready(&node.name_any(), true).await;
    until("the node to be without taint", async || {
        let node = cluster.nodes().get(CROWDED).await.unwrap();
        node.spec.and_then(|spec| spec.taints).is_none()
    })
    .await;
}

/// The prefetch pod on the node, once there is another than this one.
async fn next_pod(cluster: &TestCluster, before: Option<&Pod>) -> Pod {
    let on_it = ListParams::default().fields(&format!("spec.nodeName={CROWDED}"));
    let api = cluster.api::<Pod>("rejected");
    let newest = async || {
        let pods = api.list(&on_it).await.unwrap().items;
        let mut others = pods
            .into_iter()
            .filter(|pod| before.is_none_or(|before| before.uid() != pod.uid()));
        others.next()
    };
    until("a pod on the node", async || newest().await.is_some()).await;
    newest().await.unwrap()
}

pub(crate) async fn a_node_is_asked_again_later_and_it_alone(cluster: &TestCluster) {
    cluster.namespace("rejected").await;
    add_node(cluster).await;
    let nodes = format!("slice in (10, {CROWDED})");
    cluster
        .apply(&deployment("rejected", "web", &nodes, &["acme/web:1"]))
        .await;

    let mut pod = next_pod(cluster, None).await;
    // The shortest pauses: half of 10 s, then half of 20 s. What a kubelet says, it says at once.
    for pause in [5, 10] {
        let rejected = Instant::now();
        let status = json!({
            "phase": "Failed", "reason": "OutOfpods",
            "message": "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110",
        });
        cluster.set_pod_status(&pod, status).await;
        pod = next_pod(cluster, Some(&pod)).await;
        let took = rejected.elapsed();
        assert!(took >= Duration::from_secs(pause), "again after {took:?}");
    }
    let now = Timestamp::now().to_string();
    let ended =
        json!({ "exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now });
    let containers: Vec<Value> = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .map(|container| {
            json!({
                "name": container.name, "image": container.image, "imageID": format!("sha256:{:064}", 1),
                "ready": false, "restartCount": 0,
                "state": { "terminated": ended },
            })
        })
        .collect();
    let status = json!({ "phase": "Succeeded", "containerStatuses": containers });
    cluster.set_pod_status(&pod, status).await;
    let note = cluster.event("rejected", "web", "Prefetched").await;
    assert!(note.contains(&format!("{} nodes", slice() + 1)), "{note}");

    let creates = cluster.writes("rejected", "create");
    let made = made_by_name(&creates);
    assert_eq!(made.len(), slice() + 1);
    for (name, times) in made {
        let expected = if name == pod.name_any() { 3 } else { 1 };
        assert_eq!(times, expected, "{name}");
    }
    cluster.clear("rejected").await;
    cluster
        .nodes()
        .delete(CROWDED, &DeleteParams::default())
        .await
        .unwrap();
}
