//! One image that many Deployments roll out at once.

use std::collections::BTreeSet;
use std::time::Instant;

use headstart_core::api::hold_mark::HoldMark;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use testbed::harness::PATIENCE;
use testbed::process::Wait;

use crate::cluster::{Cluster, EVERY_NODE, alone, deployment, until, waiting, waiting_with_secret};
use crate::slow_images::{IMAGE_BYTES, push_slow};

/// At this rate the image takes some 6 s.
const BANDWIDTH: u64 = 2 << 20;
const DEPLOYMENTS: usize = 20;

/// Rolls out Deployments that are held until their common image is on the nodes. Returns when the holds end, in seconds from the
/// first write.
async fn roll_out(cluster: &Cluster, image: &str, places: &[(String, String)]) -> Vec<f64> {
    let objects = places.iter().map(|(namespace, name)| {
        let mut object = deployment(namespace, name, waiting(image));
        object["spec"]["selector"] = json!({ "matchLabels": { "app": name } });
        object["spec"]["template"]["metadata"]["labels"] = json!({ "app": name });
        object
    });
    let objects: Vec<Value> = objects.collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    let begun = Instant::now();
    cluster.apply(&list).await;
    let mut held: Vec<&(String, String)> = places.iter().collect();
    let mut over = Vec::new();
    let wait = Wait::new("the end of all holds".to_owned(), PATIENCE);
    while !held.is_empty() {
        wait.pause().await.unwrap();
        for place in std::mem::take(&mut held) {
            let (namespace, name) = place;
            let stored = cluster.api::<Deployment>(namespace).get(name).await;
            if HoldMark::read(&stored.unwrap()).is_some() {
                held.push(place);
            } else {
                over.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    over
}

#[tokio::test]
async fn an_image_of_twenty_deployments_is_pulled_by_one_pod_a_node() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("sharing", Some("hold")).await;
    let image = push_slow(cluster, "sharing/app:1", 21, BANDWIDTH).await;
    let place = |index| ("sharing".to_owned(), format!("web-{index}"));
    let places: Vec<(String, String)> = (0..DEPLOYMENTS).map(place).collect();
    let over = roll_out(cluster, &image, &places).await;
    cluster.nodes.registry().limit_bandwidth(0).await.unwrap();
    println!("the holds of {DEPLOYMENTS} Deployments of one namespace ended after {over:?} s");
    assert_eq!(cluster.creates_in("sharing"), EVERY_NODE.len());
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
    let image = push_slow(cluster, "sharing/app:2", 22, BANDWIDTH).await;
    let registry = cluster.nodes.registry();
    registry.forget_requests().await.unwrap();
    let over = roll_out(cluster, &image, &places).await;
    registry.limit_bandwidth(0).await.unwrap();
    println!("the holds of {DEPLOYMENTS} namespaces ended after {over:?} s");
    let requests = registry.requests().await.unwrap();
    let layers = requests
        .iter()
        .filter(|request| request.bytes >= IMAGE_BYTES);
    let transfers: u64 = layers.clone().map(|request| request.count).sum();
    let nodes: BTreeSet<&str> = layers.map(|request| request.node.as_str()).collect();
    assert_eq!((transfers, nodes.len()), (3, 3), "{requests:?}");
    for (namespace, _) in &places {
        cluster
            .kubectl(&["delete", "namespace", "--wait=false", namespace])
            .await;
    }
}

/// At this rate the image takes a quarter of an hour.
const TRICKLE: u64 = 16 << 10;
/// The longest time for which the hold of another namespace may last. The kubelets pull one image after another, so its image cannot
/// be there.
const SECONDS: u64 = 15;

#[tokio::test]
async fn a_registry_that_trickles_holds_up_only_the_namespace_that_uses_it() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("trickles", Some("enabled")).await;
    cluster.namespace("brisk", Some("hold")).await;
    cluster.right_pull_secret("brisk").await;
    let slow = push_slow(cluster, "sharing/slow:1", 23, TRICKLE).await;
    let registry = cluster.nodes.registry();
    let small = cluster.push_private("sharing/small:1").await;
    let mut hanging = deployment("trickles", "web", waiting(&slow));
    hanging["spec"]["replicas"] = json!(0);
    cluster.apply(&hanging).await;
    until("the pulls to hang", async || {
        let pods = cluster.prefetch_pods("trickles", "web").await;
        let started = pods.iter().filter(|pod| {
            let status = pod.status.as_ref();
            status.is_some_and(|status| status.start_time.is_some())
        });
        started.count() == EVERY_NODE.len()
    })
    .await;
    cluster
        .apply(&deployment("brisk", "web", waiting_with_secret(&small)))
        .await;
    let resumed = async || cluster.events("brisk", "web", "RolloutResumed").await;
    until("the end of the hold", async || !resumed().await.is_empty()).await;
    let note = resumed().await.remove(0);
    println!("{note}");
    let seconds = note
        .strip_prefix("After ")
        .and_then(|rest| rest.split(' ').next());
    let seconds: u64 = seconds.unwrap().parse().unwrap();
    assert!(seconds < SECONDS, "{note}");
    let hanging = cluster.prefetch_pods("trickles", "web").await;
    assert_eq!(hanging.len(), EVERY_NODE.len(), "they still pull");
    registry.limit_bandwidth(0).await.unwrap();
    // The next test's holds would not wait for nodes on which a pull hangs.
    cluster
        .kubectl(&["delete", "namespace", "trickles", "brisk"])
        .await;
}
