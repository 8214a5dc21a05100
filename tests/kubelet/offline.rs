//! After a prefetch the rollout needs no registry, and no pod of another user gets the image (KEP-2535).

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::cluster::{Cluster, alone, deployment, until, waiting, waiting_with_secret};

#[tokio::test]
async fn a_rollout_starts_with_the_registry_off_and_others_do_not_get_the_image() {
    let Some(mut turn) = alone().await else {
        return;
    };
    starts_with_the_registry_off(&mut turn, "image-volume").await;
}

/// However headstart pulls: `method` makes the names.
pub(crate) async fn starts_with_the_registry_off(cluster: &mut Cluster, method: &str) {
    let namespace = format!("offline-{method}");
    let image = prefetched(cluster, &namespace).await;
    cluster.nodes.switch_registries_off();
    rolls_out(cluster, &namespace).await;
    is_refused_to_others(cluster, method, &image).await;
    cluster.nodes.switch_registries_on().await.unwrap();
}

/// A private image, on every node before any pod of the Deployment exists.
async fn prefetched(cluster: &Cluster, namespace: &str) -> String {
    cluster.namespace(namespace, Some("enabled")).await;
    cluster.right_pull_secret(namespace).await;
    let image = cluster.push_private(&format!("{namespace}/app:1")).await;
    let mut object = deployment(namespace, "web", waiting_with_secret(&image));
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
    cluster.until_prefetched(namespace, "web", 1).await;
    image
}

async fn rolls_out(cluster: &Cluster, namespace: &str) {
    cluster
        .kubectl(&["scale", "-n", namespace, "deployment/web", "--replicas=6"])
        .await;
    cluster.until_complete(namespace, "web").await;
    let pulled = || cluster.pulled(namespace, "web-");
    until("the kubelets' word about the image", async || {
        pulled().await.len() >= 3
    })
    .await;
    let messages = pulled().await;
    assert!(
        messages
            .iter()
            .all(|message| message.contains("already present on machine")),
        "{messages:?}"
    );
}

/// The image is on the node, and a pod without the credentials is told to ask the registry for it.
async fn is_refused_to_others(cluster: &Cluster, method: &str, image: &str) {
    let namespace = format!("stranger-{method}");
    cluster.namespace(&namespace, None).await;
    let mut spec = waiting(image);
    spec["nodeName"] = json!("node-1");
    spec["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": namespace, "name": "stranger" }, "spec": spec,
    });
    cluster.apply(&pod).await;
    until("the stranger to be refused", async || {
        let pod = cluster
            .api::<Pod>(&namespace)
            .get("stranger")
            .await
            .unwrap();
        let statuses = pod.status.unwrap().container_statuses.unwrap_or_default();
        let state = statuses.first().and_then(|status| status.state.clone());
        assert!(
            state.as_ref().is_none_or(|state| state.running.is_none()),
            "a stranger runs the private image"
        );
        let waiting = state.and_then(|state| state.waiting?.reason);
        waiting.is_some_and(|reason| reason == "ErrImagePull" || reason == "ImagePullBackOff")
    })
    .await;
    cluster
        .kubectl(&[
            "delete",
            "pod",
            "-n",
            &namespace,
            "stranger",
            "--grace-period=0",
            "--force",
        ])
        .await;
}
