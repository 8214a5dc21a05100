//! What flags promise: limits that are kept, namespaces that are left alone, nodes that are believed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{Config, Event, watcher};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::scale::cluster::{
    TestCluster, answered, cluster, deployment, images, node, phase, slice,
};

/// Counts prefetch pods that wait for their images, all and by registry, at each event of a watch: what is under way is
/// never more than what the API server has stored, in the order in which it did.
struct Watch {
    most: Arc<Mutex<BTreeMap<String, usize>>>,
    task: JoinHandle<()>,
}

/// Not a registry: all of them.
const ALL: &str = "";

impl Watch {
    fn start(cluster: &TestCluster, namespace: &str) -> Self {
        let most = Arc::new(Mutex::new(BTreeMap::new()));
        let (api, counted) = (cluster.api::<Pod>(namespace), most.clone());
        let task = tokio::spawn(async move {
            let mut waiting: BTreeMap<String, String> = BTreeMap::new();
            let mut events = std::pin::pin!(watcher(api, Config::default()));
            while let Some(event) = events.try_next().await.unwrap() {
                match event {
                    Event::Apply(pod) | Event::InitApply(pod) => {
                        if ["", "Pending"].contains(&phase(&pod)) {
                            let image = images(&pod).remove(0);
                            let registry = image.split('/').next().unwrap_or_default();
                            waiting.insert(pod.name_any(), registry.to_owned());
                        } else {
                            waiting.remove(&pod.name_any());
                        }
                    }
                    Event::Delete(pod) => drop(waiting.remove(&pod.name_any())),
                    Event::Init | Event::InitDone => {}
                }
                let mut now = BTreeMap::from([(ALL.to_owned(), waiting.len())]);
                for registry in waiting.values() {
                    *now.entry(registry.clone()).or_default() += 1;
                }
                let mut most = counted.lock().unwrap();
                for (registry, count) in now {
                    let highest = most.entry(registry).or_default();
                    *highest = count.max(*highest);
                }
            }
        });
        Self { most, task }
    }

    fn end(self) -> BTreeMap<String, usize> {
        assert!(!self.task.is_finished(), "the watch ended early");
        self.task.abort();
        self.most.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_nodes_pull_at_once_than_allowed() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    cluster.only(&["--max-pulling-nodes=7"]).await;
    cluster.namespace("pulling").await;
    let watch = Watch::start(cluster, "pulling");
    for (name, slice) in [("web", "slice=3"), ("api", "slice=4")] {
        cluster
            .apply(&deployment("pulling", name, slice, &["acme/web:1"]))
            .await;
    }
    for name in ["web", "api"] {
        cluster.event("pulling", name, "Prefetched").await;
    }
    let most = watch.end();
    // On a busy machine the first may be done before the last is there.
    assert!((4..=7).contains(&most[ALL]), "kept, and used: {most:?}");
    cluster.clear("pulling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_nodes_pull_from_one_registry_than_allowed() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    cluster.only(&["--max-pulls-per-registry=4"]).await;
    cluster.namespace("registries").await;
    let watch = Watch::start(cluster, "registries");
    for (name, slice, image) in [
        ("web", "slice=3", "one.example/acme/web:1"),
        ("api", "slice=4", "one.example/acme/api:1"),
        ("jobs", "slice=5", "two.example/acme/jobs:1"),
    ] {
        cluster
            .apply(&deployment("registries", name, slice, &[image]))
            .await;
    }
    for name in ["web", "api", "jobs"] {
        cluster.event("registries", name, "Prefetched").await;
    }
    let most = watch.end();
    for registry in ["one.example", "two.example"] {
        assert!((3..=4).contains(&most[registry]), "kept, used: {most:?}");
    }
    assert!(most[ALL] > 4, "one does not wait for the other: {most:?}");
    cluster.clear("registries").await;
}

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
    cluster
        .apply(&deployment(
            "reported",
            "doubted",
            "slice=8",
            &["acme/web:1"],
        ))
        .await;
    cluster.event("reported", "doubted", "Prefetched").await;
    assert_eq!(
        cluster.pods("reported", Some("doubted")).await.len(),
        slice()
    );

    report_images(cluster, &reporting, Value::Null).await;
    cluster.clear("reported").await;
}
