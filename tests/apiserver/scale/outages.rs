//! An API server that goes, and one that is hard to reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::Request;
use headstart_core::api::well_known::{MANAGED_BY_LABEL, MANAGER};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use testbed::Component;
use testbed::harness::length;
use testbed::progress::say;

use crate::scale::cluster::{TestCluster, cluster, deployment, phase, third, until};
use crate::scale::proxy::{Manner, Proxy};

/// Most requests in a minute in which nothing happens: the leader reads and renews its lease 7.5 times each per lease
/// of 2 s, as this test has it, which is 450; each of the watches is begun again every five minutes, and after trouble
/// sooner. With the default of 6 s a lease, a leader asks 150 times a minute. A loop that runs hot asks thousands of times.
const IDLE_PER_MINUTE: f64 = 700.0;

async fn all_warm(cluster: &TestCluster, namespace: &str, image: &str) {
    until(&format!("{image} on {} nodes", third()), async || {
        let warm = cluster.warm(namespace).await;
        let of_web = warm.get("web").into_iter().flatten();
        of_web.filter(|(_, found)| found == image).count() == third()
    })
    .await;
}

/// Shows pods that are not done to the fake kubelets again and again. A kubelet looks at its pods every minute and writes
/// again what could not be stored. kwok gives a pod up on any answer like etcd's timeout (500), and looks at it again
/// only when it changes; even when kwok is started anew, it passes over pods of a node whose lease it has taken and
/// not seen in its own cache yet.
async fn remind_of_pods(cluster: &TestCluster, namespace: &str) {
    let api: Api<Pod> = cluster.api(namespace);
    let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
    for round in 0.. {
        // Longer than a pull: a pod that changes begins its pull anew.
        tokio::time::sleep(Duration::from_secs(5)).await;
        // The API server may not be back yet.
        let Ok(pods) = api.list(&ours).await else {
            continue;
        };
        let waiting: Vec<String> = pods
            .iter()
            .filter(|pod| phase(pod) != "Succeeded")
            .map(ResourceExt::name_any)
            .collect();
        if !waiting.is_empty() {
            say(&format!(
                "{} pods are not done; showing them again",
                waiting.len()
            ));
        }
        let touch = json!({ "metadata": { "annotations": { "test/shown": round.to_string() } } });
        for name in waiting {
            // It may have ended or gone meanwhile.
            let _ = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(&touch))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_in_the_middle_costs_nothing_but_time() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    // What was done before the outage is still there when the rest is done.
    cluster.take_turns().await;
    cluster.namespace("outage").await;
    let web = |image: &str| deployment("outage", "web", "third=true", &[image]);
    let begun = async |image: &str, before: usize| {
        cluster.apply(&web(image)).await;
        until("the fan-out to begin", async || {
            cluster.asked_for("outage").len() > before + 20
        })
        .await;
    };

    begun("acme/web:1", 0).await;
    cluster.plane.restart(Component::ApiServer).await.unwrap();
    all_warm(cluster, "outage", "acme/web:1").await;

    begun("acme/web:2", third()).await;
    cluster.plane.stop_component(Component::Etcd);
    // There is no condition to wait for. The short form is longer than the lease, and than the API server waits for etcd.
    let outage = length("seconds without etcd", 12, 30);
    tokio::time::sleep(Duration::from_secs(outage)).await;
    cluster
        .plane
        .start_component(Component::Etcd)
        .await
        .unwrap();
    let touching = remind_of_pods(cluster, "outage");
    tokio::select! {
        () = all_warm(cluster, "outage", "acme/web:2") => {}
        () = touching => {}
    }
    let made = cluster.made_once("outage");
    // What was stored as the API server was killed is not in its log.
    assert!(made > third() * 9 / 10, "{made}");
    cluster.clear("outage").await;

    // Nothing happens now, and little is asked.
    let (before, since) = (cluster.requests(), Instant::now());
    tokio::time::sleep(Duration::from_secs(length("idle seconds", 10, 60))).await;
    let took = since.elapsed().as_secs_f64() / 60.0;
    let per_minute = (cluster.requests() - before) as f64 / took;
    eprintln!("{per_minute:.0} requests a minute while idle, of {IDLE_PER_MINUTE}");
    assert!(per_minute < IDLE_PER_MINUTE);
}

/// Of every five requests one is refused for load, one in fifteen each: too many, broken, no answer. Watches are cut
/// after a second.
fn trouble(number: usize, request: &Request) -> Manner {
    if number.is_multiple_of(5) {
        return match number / 5 % 3 {
            0 => Manner::Refuse(429, Duration::ZERO),
            1 => Manner::Refuse(500, Duration::ZERO),
            _ => Manner::Refuse(504, Duration::from_secs(3)),
        };
    }
    let query = request.uri().query();
    if query.is_some_and(|query| query.contains("watch=true")) {
        Manner::Cut(Duration::from_secs(1))
    } else {
        Manner::Pass
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_of_all_requests_failing_and_watches_cut_every_second_is_survived() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    let (count, on) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let manners = {
        let (count, on) = (count.clone(), on.clone());
        move |request: &Request| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            if on.load(Ordering::Relaxed) {
                trouble(number, request)
            } else {
                Manner::Pass
            }
        }
    };
    let proxy = Proxy::start(cluster, manners).await;

    // The only replica, so that all it does passes through.
    cluster.only_through(&proxy.kubeconfig, &[]).await;
    cluster.namespace("trouble").await;
    on.store(true, Ordering::Relaxed);
    let (begun, before) = (Instant::now(), count.load(Ordering::Relaxed));
    let seconds = length("seconds of trouble", 10, 60);
    let mut rollouts = 0;
    while rollouts < 2 || begun.elapsed() < Duration::from_secs(seconds) {
        rollouts += 1;
        let image = format!("acme/web:{rollouts}");
        cluster
            .apply(&deployment("trouble", "web", "third=true", &[&image]))
            .await;
        all_warm(cluster, "trouble", &image).await;
    }
    let requests = count.load(Ordering::Relaxed) - before;
    eprintln!(
        "{rollouts} rollouts to {} nodes in {:.1} s of trouble, {requests} requests",
        third(),
        begun.elapsed().as_secs_f64()
    );
    let creates = cluster.plane.audit_events("trouble").unwrap();
    let made = creates.iter().filter(|event| {
        event.namespace == "trouble"
            && event.verb == "create"
            && event.resource == "pods"
            && event.code == 201
    });
    assert_eq!(made.count(), rollouts * third());
    // A pod costs a create, a refusal now and then, and a delete; a watch that is cut is begun again at most every
    // second, with its list.
    let bound = rollouts * third() * 4 + usize::try_from(begun.elapsed().as_secs()).unwrap() * 40;
    assert!(requests < bound, "{requests} requests, of {bound}");

    on.store(false, Ordering::Relaxed);
    cluster.clear("trouble").await;
}
