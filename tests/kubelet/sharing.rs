//! One image that many Deployments roll out at once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cluster::{Cluster, EVERY_NODE, alone, deployment, until, waiting};

/// At this rate the image takes some 6 s.
const BANDWIDTH: u64 = 2 << 20;
const IMAGE_BYTES: u64 = 12 << 20;
const DEPLOYMENTS: usize = 20;

/// Rolls out Deployments that are held until their common image is on the nodes. Returns how long each was held, in seconds,
/// the shortest first.
async fn roll_out(cluster: &Cluster, image: &str, places: &[(String, String)]) -> Vec<u64> {
    let objects = places.iter().map(|(namespace, name)| {
        let mut object = deployment(namespace, name, waiting(image));
        object["spec"]["selector"] = json!({ "matchLabels": { "app": name } });
        object["spec"]["template"]["metadata"]["labels"] = json!({ "app": name });
        object
    });
    let objects: Vec<Value> = objects.collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    cluster.apply(&list).await;
    let mut held = Vec::new();
    for (namespace, name) in places {
        let resumed = async || cluster.events(namespace, name, "RolloutResumed").await;
        until("the end of the hold", async || !resumed().await.is_empty()).await;
        let note = resumed().await.remove(0);
        assert!(note.contains("on 3 of 3 nodes"), "{note}");
        let seconds = note
            .strip_prefix("After ")
            .and_then(|rest| rest.split(' ').next());
        held.push(seconds.unwrap().parse().unwrap());
    }
    held.sort_unstable();
    held
}

async fn push_slow(cluster: &Cluster, name: &str, seed: u64) -> String {
    let registry = cluster.nodes.registry();
    let image = cluster.image(name).random_layer(IMAGE_BYTES, seed);
    let image = registry.push(name, &image).await.unwrap();
    registry.limit_bandwidth(BANDWIDTH).await.unwrap();
    image
}

#[tokio::test]
async fn an_image_of_twenty_deployments_is_pulled_by_one_pod_a_node() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("sharing", Some("hold")).await;
    let image = push_slow(cluster, "sharing/app:1", 21).await;
    let place = |index| ("sharing".to_owned(), format!("web-{index}"));
    let places: Vec<(String, String)> = (0..DEPLOYMENTS).map(place).collect();
    let held = roll_out(cluster, &image, &places).await;
    cluster.nodes.registry().limit_bandwidth(0).await.unwrap();
    println!("{DEPLOYMENTS} Deployments of one namespace were held for {held:?} s");
    assert_eq!(cluster.creates_in("sharing"), EVERY_NODE.len());
    let (first, last) = (held[0].max(1), held[DEPLOYMENTS - 1]);
    assert!(last * 10 <= first * 12 + 10, "held for {held:?} s");
    cluster.kubectl(&["delete", "namespace", "sharing"]).await;
}

#[tokio::test]
async fn an_image_of_twenty_namespaces_is_transferred_once_a_node() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    let place = |index| (format!("sharing-{index}"), "web".to_owned());
    let places: Vec<(String, String)> = (0..DEPLOYMENTS).map(place).collect();
    for (namespace, _) in &places {
        cluster.namespace(namespace, Some("hold")).await;
    }
    let image = push_slow(cluster, "sharing/app:2", 22).await;
    let registry = cluster.nodes.registry();
    registry.forget_requests().await.unwrap();
    let held = roll_out(cluster, &image, &places).await;
    registry.limit_bandwidth(0).await.unwrap();
    println!("Deployments of {DEPLOYMENTS} namespaces were held for {held:?} s");
    let requests = registry.requests().await.unwrap();
    let layers = requests
        .iter()
        .filter(|request| request.bytes >= IMAGE_BYTES);
    let transfers: u64 = layers.clone().map(|request| request.count).sum();
    let nodes: BTreeSet<&str> = layers.map(|request| request.node.as_str()).collect();
    assert_eq!((transfers, nodes.len()), (3, 3), "{requests:?}");
    let (first, last) = (held[0].max(1), held[DEPLOYMENTS - 1]);
    assert!(last <= 2 * first + 1, "held for {held:?} s");
    for (namespace, _) in &places {
        cluster
            .kubectl(&["delete", "namespace", "--wait=false", namespace])
            .await;
    }
}
