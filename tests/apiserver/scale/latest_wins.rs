//! Many Deployments at once, some updated again while they are at it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::Request;
use futures::future::join_all;
use headstart_core::api::well_known::DEPLOYMENT_LABEL;
use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::scale::cluster::{
    TestCluster, cluster, deployment, images, node, phase, third_of_slice, until,
};
use crate::scale::proxy::{Manner, Proxy};

/// Deployments that change at once. Many more would make more finished pods than Kubernetes keeps: its collector takes
/// the oldest beyond 12,500 (`--terminated-pod-gc-threshold`), and those that are there are counted.
const COUNT: usize = 200;

fn selector(deployment: usize) -> String {
    format!("third=true,slice={}", deployment % 20)
}

async fn rollout(cluster: &TestCluster, version: usize, which: impl Fn(usize) -> bool) {
    let version = format!("acme/web:{version}");
    let apply = |n: usize| {
        let name = format!("web-{n}");
        let images = [version.as_str(), "acme/common:1"];
        let object = deployment("many", &name, &selector(n), &images);
        async move { cluster.apply(&object).await }
    };
    join_all((0..COUNT).filter(|n| which(*n)).map(apply)).await;
}

/// When the last of these pods was done.
fn last_end(pods: &[Pod]) -> Timestamp {
    let ends = pods.iter().filter_map(|pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
        let ended = containers[0].state.as_ref()?.terminated.as_ref()?;
        Some(ended.finished_at.as_ref()?.0)
    });
    ends.max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_images_win_and_a_small_deployment_is_done_early() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    cluster.keep_pods().await;
    cluster.namespace("many").await;
    cluster.namespace("few").await;
    let started = Instant::now();
    rollout(cluster, 1, |_| true).await;
    rollout(cluster, 2, |n| n % 4 == 0).await;
    let small = deployment("few", "web", "slice=0,third=true", &["acme/small:1"]);
    cluster.apply(&small).await;
    until("the small one to be warm", async || {
        let warm = cluster.warm("few").await;
        warm.get("web")
            .is_some_and(|warm| warm.len() == third_of_slice())
    })
    .await;

    let newest = |n: usize| format!("acme/web:{}", if n.is_multiple_of(4) { 2 } else { 1 });
    let complete = async || {
        let warm = cluster.warm("many").await;
        (0..COUNT)
            .filter(|n| {
                let of = warm.get(&format!("web-{n}"));
                let has = |image: &str| {
                    of.is_some_and(|of| {
                        of.iter().filter(|(_, i)| i == image).count() == third_of_slice()
                    })
                };
                has(&newest(*n)) && has("acme/common:1")
            })
            .count()
    };
    until("the newest images to be everywhere", async || {
        complete().await == COUNT
    })
    .await;
    // By the kubelets' clock: this test may look late.
    let small: Deployment = cluster.api("few").get("web").await.unwrap();
    let begun = small.metadata.creation_timestamp.unwrap().0;
    let small_done = last_end(&cluster.pods("few", None).await).duration_since(begun);
    let all_done = last_end(&cluster.pods("many", None).await).duration_since(begun);
    eprintln!(
        "{COUNT} Deployments, every fourth updated again: {:.1} s; of the last {all_done:?} the small one took {small_done:?}",
        started.elapsed().as_secs_f64(),
    );
    assert!(small_done < all_done / 2, "begun last, done early");

    let mut seen: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for pod in cluster.pods("many", None).await {
        let of = pod.labels()[DEPLOYMENT_LABEL].clone();
        let number: usize = of.trim_start_matches("web-").parse().unwrap();
        for image in images(&pod) {
            if phase(&pod) != "Succeeded" {
                let stale = image != newest(number) && image != "acme/common:1";
                assert!(!stale, "{of}: {image} is still to be pulled");
            }
            let images = seen.entry((of.clone(), node(&pod))).or_default();
            assert!(
                !images.contains(&image),
                "{of} pulls {image} twice on {}",
                node(&pod)
            );
            images.push(image);
        }
    }
    cluster.clear("many").await;
    cluster.clear("few").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_on_their_way_when_the_images_change_are_waited_for() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    let sent = Arc::new(AtomicUsize::new(0));
    let slow = {
        let sent = sent.clone();
        move |request: &Request| {
            if request.method() == Method::POST && request.uri().path().ends_with("/pods") {
                sent.fetch_add(1, Ordering::Relaxed);
                Manner::Late(Duration::from_secs(2))
            } else {
                Manner::Pass
            }
        }
    };
    let proxy = Proxy::start(cluster, slow).await;
    cluster
        .only_through(&proxy.kubeconfig, &["--pods-per-node=4"])
        .await;
    cluster.namespace("late").await;
    let web = |image: &str| {
        deployment(
            "late",
            "web",
            "slice=1,third=true",
            &[image, "acme/common:1"],
        )
    };
    cluster.apply(&web("acme/web:1")).await;
    until("the first creates to be on their way", async || {
        sent.load(Ordering::Relaxed) > 0
    })
    .await;
    cluster.apply(&web("acme/web:2")).await;
    until("the newest images to be everywhere", async || {
        let warm = cluster.warm("late").await;
        let has = |image: &str| {
            let of_web = warm.get("web").into_iter().flatten();
            of_web.filter(|(_, found)| found == image).count() == third_of_slice()
        };
        has("acme/web:2") && has("acme/common:1")
    })
    .await;
    let mut common = BTreeSet::new();
    for pod in cluster.pods("late", None).await {
        if images(&pod).iter().any(|image| image == "acme/common:1") {
            assert!(common.insert(node(&pod)), "{} pulls it twice", node(&pod));
        }
    }
    let old = cluster.writes("late", "create").len() - third_of_slice();
    assert!(old > 0, "some were on their way");
    cluster.clear("late").await;
}
