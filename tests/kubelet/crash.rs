//! The replica that leads is killed where it runs: who writes hardly notices, and nothing admitted meanwhile is lost.

use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams};
use testbed::progress::say;
use testbed::writes::slowest;

use crate::cluster::{Cluster, alone, deployment, until, waiting};

/// `timeoutSeconds` of the webhooks, and the time that a busy machine takes for the write itself: less than two
/// time-outs.
const MOST: Duration = Duration::from_millis(2000 + 1500);
/// The number of Deployments that are admitted while no replica leads.
const DEPLOYMENTS: usize = 3;
const FAILED_OPEN: &str = "apiserver_admission_webhook_fail_open_count{";
/// Calls, also those that fail open. More than writes: a patch that meets another write is tried again, and calls again.
const CALLS: &str = "apiserver_admission_webhook_request_total{";

/// The state of a replica after it was killed.
#[derive(Debug)]
enum Then {
    /// Its kubelet starts its container again.
    Restarts,
    /// Its pod, with its name in the lease, is gone for good.
    Gone,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_the_calls_in_flight_and_loses_no_prefetch() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    for then in [Then::Restarts, Then::Gone] {
        kill_the_leader(cluster, then).await;
    }
}

async fn kill_the_leader(cluster: &Cluster, then: Then) {
    let namespace = format!("crash-{then:?}").to_lowercase();
    cluster.namespace(&namespace, Some("enabled")).await;
    let mut objects = Vec::new();
    for index in 0..DEPLOYMENTS {
        let image = cluster.push(&format!("{namespace}/app:{index}")).await;
        let mut object = deployment(&namespace, &format!("app-{index}"), waiting(&image));
        // The rollout lasts longer than the time without a leader: a Deployment that is rolled out needs no prefetch
        // any more.
        object["spec"]["minReadySeconds"] = 60.into();
        objects.push(serde_json::from_value::<Deployment>(object).unwrap());
    }
    let replicas = cluster.api::<Pod>("headstart");
    let leader = lease(cluster).await.holder_identity.unwrap();
    let (node, container) = running(&replicas.get(&leader).await.unwrap()).unwrap();
    let before = cluster.sum_of_metric(FAILED_OPEN).await;
    let writes = cluster.writes(&namespace).await;
    let calls = cluster.sum_of_metric(CALLS).await;

    let (killed, killed_at) = (Instant::now(), Timestamp::now());
    cluster
        .nodes
        .kill_container(&node, &container)
        .await
        .unwrap();
    if matches!(then, Then::Gone) {
        let at_once = DeleteParams::default().grace_period(0);
        replicas.delete(&leader, &at_once).await.unwrap();
    }
    let deployments = cluster.api::<Deployment>(&namespace);
    let creates = objects.iter().map(async |object| {
        let begun = Instant::now();
        let created = deployments.create(&PostParams::default(), object).await;
        created.unwrap();
        assert!(begun.elapsed() < MOST, "{:?}", begun.elapsed());
    });
    join_all(creates).await;
    let renewed = async || lease(cluster).await.renew_time.unwrap().0;
    if matches!(then, Then::Gone) {
        assert!(renewed().await < killed_at, "nobody leads yet");
    }
    // Until then the API server may choose it for a new connection.
    until("the Service to name what was killed no more", async || {
        let restarted = replicas.get_opt(&leader).await.unwrap();
        let now = restarted.as_ref().and_then(running);
        now.is_some_and(|(_, now)| now != container) || !is_named(cluster, &leader).await
    })
    .await;
    let unnamed = killed.elapsed();
    let calls = cluster.sum_of_metric(CALLS).await - calls;
    until("a replica to lead", async || renewed().await > killed_at).await;
    let took_over = killed.elapsed();
    let next = lease(cluster).await.holder_identity.unwrap();
    for object in &objects {
        let name = object.metadata.name.as_deref().unwrap();
        cluster.until_prefetched(&namespace, name, 1).await;
    }
    cluster
        .headstart
        .wait_until_ready(cluster.control_plane())
        .await
        .unwrap();
    let writes = writes.stop().await.unwrap();

    let failed = cluster.sum_of_metric(FAILED_OPEN).await - before;
    let longest = slowest(&writes);
    say(&format!(
        "{then:?}: killed {leader}, out of the Service after {unnamed:?}, {next} leads after {took_over:?}; {} writes, the longest took {longest:?}; \
         {failed} of {calls} calls meanwhile failed open",
        writes.len()
    ));
    assert!(longest < MOST, "{longest:?}");
    assert!(failed <= calls, "a call failed open later");
    if matches!(then, Then::Gone) {
        assert_ne!(next, leader, "the standby took over");
    }
}

async fn lease(cluster: &Cluster) -> LeaseSpec {
    let leases = cluster.api::<Lease>("headstart");
    leases.get("headstart").await.unwrap().spec.unwrap()
}

/// Returns whether headstart's Service leads to this replica.
async fn is_named(cluster: &Cluster, replica: &str) -> bool {
    let slices = cluster.api::<EndpointSlice>("headstart");
    let of_service = ListParams::default().labels("kubernetes.io/service-name=headstart");
    let slices = slices.list(&of_service).await.unwrap();
    slices
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .any(|endpoint| {
            let target = endpoint
                .target_ref
                .as_ref()
                .and_then(|target| target.name.as_deref());
            let ready = endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready);
            target == Some(replica) && ready == Some(true)
        })
}

/// The node and the container of a replica that is running.
fn running(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.running.as_ref()?;
    let id = status
        .container_id
        .as_ref()?
        .strip_prefix("containerd://")?;
    Some((pod.spec.as_ref()?.node_name.clone()?, id.to_owned()))
}
