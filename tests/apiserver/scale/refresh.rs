//! Images that are prefetched again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use crate::scale::cluster::{
    TestCluster, answered, cluster, deployment, is_long, made_by_name, node, phase, slice, until,
};

/// Makes finished pods say that they ended before they did, as if that time had passed.
async fn backdate(cluster: &TestCluster, namespace: &str, by: SignedDuration) {
    for pod in cluster.pods(namespace, None).await {
        let then = (Timestamp::now() - by).to_string();
        let mut status = serde_json::to_value(&pod.status).unwrap();
        for container in status["containerStatuses"].as_array_mut().unwrap() {
            container["state"]["terminated"]["finishedAt"] = json!(then);
        }
        let containers = &status["containerStatuses"];
        cluster
            .set_pod_status(&pod, json!({ "containerStatuses": containers }))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_prefetched_again_when_their_time_has_come() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    // In the short form none is due by itself while this goes on.
    let long = is_long();
    let refresh = if long { "1m" } else { "10m" };
    cluster.only(&[&format!("--refresh={refresh}")]).await;
    cluster.namespace("refresh").await;
    let begun = Instant::now();
    cluster
        .apply(&deployment("refresh", "web", "slice=9", &["acme/web:1"]))
        .await;
    cluster.event("refresh", "web", "Prefetched").await;
    assert_eq!(answered(&cluster.writes("refresh", "create"), 201), slice());

    let pods_of_now = async || -> BTreeSet<String> {
        let pods = cluster.pods("refresh", None).await;
        pods.iter().filter_map(ResourceExt::uid).collect()
    };
    let first = pods_of_now().await;
    if long {
        tokio::time::sleep(Duration::from_secs(45)).await;
        let pods = pods_of_now().await;
        if begun.elapsed() < Duration::from_secs(60) {
            assert_eq!(pods, first, "not before their time");
        }
    } else {
        println!("with pods that claim to be older; HEADSTART_LONG=1 waits for the minute");
        backdate(cluster, "refresh", SignedDuration::from_mins(15)).await;
    }
    until("every node to be prefetched again", async || {
        let pods = cluster.pods("refresh", None).await;
        let done = pods.iter().filter(|pod| {
            phase(pod) == "Succeeded" && pod.uid().is_some_and(|uid| !first.contains(&uid))
        });
        done.map(node).collect::<BTreeSet<_>>().len() == slice()
    })
    .await;
    // A kubelet names the UID of the pod that it removes for good. kwok does not, and may hit the one that has come in its
    // place; that is made once more.
    let events = cluster.plane.audit_events("refresh").unwrap();
    let hit = |name: &str| {
        let removals = events.iter().filter(|event| {
            event.user == "admin" && event.verb == "delete" && event.resource == "pods"
        });
        let of_it = removals.filter(|event| event.namespace == "refresh" && event.name == name);
        of_it.filter(|event| event.code == 200).count()
    };
    for (name, times) in made_by_name(&cluster.writes("refresh", "create")) {
        let most = 2 + hit(name);
        assert!(
            (2..=most).contains(&times),
            "{name}: one at first and one again, not {times} of {most}"
        );
    }
    cluster.clear("refresh").await;
}
