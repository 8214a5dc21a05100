//! What settings promise: namespaces that are left alone, nodes that are believed, images that are pulled again.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::scale::cluster::{
    TestCluster, answered, cluster, deployment, node, phase, slice, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_namespaces_are_looked_at() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    cluster.only(&["--namespaces=inside,inside-too"]).await;
    for namespace in ["outside", "inside", "inside-too"] {
        cluster.namespace(namespace).await;
        cluster
            .apply(&deployment(namespace, "web", "slice=6", &["acme/web:1"]))
            .await;
    }
    for namespace in ["inside", "inside-too"] {
        cluster.event(namespace, "web", "Prefetched").await;
    }
    // It came first.
    assert_eq!(cluster.writes("outside", "create").len(), 0);
    assert_eq!(cluster.events("outside", "web").await, []);

    // It is not the Deployment: one that looks everywhere takes it up.
    cluster.keep_pods().await;
    cluster.event("outside", "web", "Prefetched").await;
    for namespace in ["outside", "inside", "inside-too"] {
        cluster.clear(namespace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_replaces_a_pod_by_one_of_the_same_name() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    cluster.keep_pods().await;
    cluster.namespace("refresh").await;
    let mut web = deployment(
        "refresh",
        "web",
        "kubernetes.io/hostname=fake-9",
        &["acme/web:1"],
    );
    cluster.apply(&web).await;
    // Its images may be there before it has ended.
    until("the pod to end", async || {
        let pods = cluster.pods("refresh", None).await;
        pods.iter().any(|pod| phase(pod) == "Succeeded")
    })
    .await;
    let first = cluster.pods("refresh", None).await.remove(0);
    // It says that it ended before it did: more than a refresh ago, and less than two, after which it is deleted in any case.
    let then = (Timestamp::now() - SignedDuration::from_secs(90)).to_string();
    let mut status = serde_json::to_value(&first.status).unwrap();
    for container in status["containerStatuses"].as_array_mut().unwrap() {
        container["state"]["terminated"]["finishedAt"] = json!(then);
    }
    let containers = &status["containerStatuses"];
    cluster
        .set_pod_status(&first, json!({ "containerStatuses": containers }))
        .await;
    web["metadata"]["annotations"]["headstart.dev/refresh"] = json!("1m");
    cluster.apply(&web).await;
    until("the node to be prefetched again", async || {
        let pods = cluster.pods("refresh", None).await;
        let mut others = pods.iter().filter(|pod| pod.uid() != first.uid());
        others.any(|pod| phase(pod) == "Succeeded" && pod.name_any() == first.name_any())
    })
    .await;
    cluster.clear("refresh").await;
}

async fn report_images(cluster: &TestCluster, nodes: &[String], images: Value) {
    for name in nodes {
        let patch = json!({ "status": { "images": images } });
        cluster
            .nodes()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_report_the_images_are_left_out_where_they_can_be_believed() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    cluster.namespace("reported").await;
    // Every other node of the slice.
    let reporting: Vec<String> = (0..slice() / 2)
        .map(|n| format!("fake-{}", n * 40 + 8))
        .collect();
    let images = json!([{ "names": ["docker.io/acme/web:1"], "sizeBytes": 1 }]);
    report_images(cluster, &reporting, images).await;
    // It lists what they report, before anything is asked of it.
    cluster.only(&["--trust-node-images=true"]).await;

    let with_secret = |name: &str| {
        let mut object = deployment("reported", name, "slice=8", &["acme/web:1"]);
        object["spec"]["template"]["spec"]["imagePullSecrets"] = json!([{ "name": "registry" }]);
        object
    };
    cluster
        .apply(&deployment("reported", "web", "slice=8", &["acme/web:1"]))
        .await;
    cluster.event("reported", "web", "Prefetched").await;
    let made = cluster.writes("reported", "create");
    assert_eq!(answered(&made, 201), slice() - reporting.len());
    let pods = cluster.pods("reported", Some("web")).await;
    assert!(pods.iter().all(|pod| !reporting.contains(&node(pod))));

    // With credentials, only a pull proves the right to the image.
    cluster.apply(&with_secret("private")).await;
    cluster.event("reported", "private", "Prefetched").await;
    assert_eq!(
        cluster.pods("reported", Some("private")).await.len(),
        slice()
    );

    cluster.only(&["--trust-node-images=false"]).await;
    // In a namespace of its own: within one, the images of the first would be shared.
    cluster.namespace("doubted").await;
    cluster
        .apply(&deployment("doubted", "web", "slice=8", &["acme/web:1"]))
        .await;
    cluster.event("doubted", "web", "Prefetched").await;
    assert_eq!(cluster.pods("doubted", Some("web")).await.len(), slice());

    report_images(cluster, &reporting, Value::Null).await;
    cluster.clear("reported").await;
}
