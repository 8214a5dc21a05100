//! Replicas that come and go under a stream of writes.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use testbed::process::Wait;
use testbed::writes::slowest;

use crate::admission::certificates::served;
use crate::admission::client::{self, Tls};
use crate::admission::forwarder::Forwarder;
use crate::admission::installation::{DEPLOYMENTS, Installation, PATIENCE, SHOP};
use crate::admission::replica::Replica;

/// A lease that a busy machine does not lose, and that tells a release from its end.
const FLAGS: [&str; 4] = ["--drain", "5s", "--lease-duration", "12s"];
/// After a clean stop the lease would still be valid for longer than this: it is renewed every 1.6 s.
const BEFORE_IT_ENDS: Duration = Duration::from_secs(9);
/// Less than the webhooks' `timeoutSeconds` here: no write may wait for so long.
const LATE: Duration = Duration::from_secs(20);

async fn start(installation: &Installation, forwarder: &Forwarder) -> Replica {
    let replica = installation.replica("replica", &FLAGS);
    replica.ready().await;
    forwarder.add(&replica);
    replica
}

/// Waits until one of them leads; which, and how long that took.
async fn led(replicas: &[Replica]) -> (usize, Duration) {
    let started = Instant::now();
    let wait = Wait::new("a replica to lead", PATIENCE);
    loop {
        for (index, replica) in replicas.iter().enumerate() {
            if replica.leads().await {
                return (index, started.elapsed());
            }
        }
        if let Err(error) = wait.pause().await {
            let logs: Vec<_> = replicas.iter().map(Replica::log).collect();
            panic!("{error}: {}", logs.join("\n"));
        }
    }
}

/// Waits until both nodes have the newest images of every Deployment.
async fn everything_is_prefetched(installation: &Installation) {
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let pods: Api<Pod> = Api::namespaced(installation.client.clone(), SHOP);
    let wait = Wait::new("the newest images on every node", PATIENCE);
    loop {
        let mut complete = 0;
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        for deployment in deployments.list(&ListParams::default()).await.unwrap() {
            let template = deployment.spec.as_ref().unwrap().template.spec.as_ref();
            let image = template.unwrap().containers[0].image.as_deref();
            let done = all.iter().filter(|pod| {
                let volumes = pod
                    .spec
                    .iter()
                    .flat_map(|spec| spec.volumes.iter().flatten());
                let mut images =
                    volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
                pod.labels().get("headstart.dev/deployment") == deployment.metadata.name.as_ref()
                    && images.next() == image
                    && pod.status.as_ref().unwrap().phase.as_deref() == Some("Succeeded")
            });
            complete += usize::from(done.count() == 2);
        }
        if complete == DEPLOYMENTS {
            return;
        }
        if let Err(error) = wait.pause().await {
            panic!("{error}: {complete} of {DEPLOYMENTS} Deployments");
        }
    }
}

#[tokio::test]
async fn a_clean_stop_and_an_upgrade_are_not_noticed_and_a_crash_costs_the_calls_in_flight() {
    let installation = Installation::new().await;
    let forwarder = Forwarder::start().await;
    installation.call_at(forwarder.port).await;
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(start(&installation, &forwarder).await);
        led(&replicas).await;
    }
    served(&installation, forwarder.port).await;
    let writes = installation.writes().await;
    let failed = installation.failed_open().await;

    // A rolling upgrade: one more, then one less, twice. The leader goes by a clean stop each time.
    for _ in 0..2 {
        replicas.push(start(&installation, &forwarder).await);
        let leader = replicas.swap_remove(led(&replicas).await.0);
        leader.signal("-TERM").await;
        let (_, takeover) = led(&replicas).await;
        println!("clean stop: another leads after {takeover:?}");
        assert!(
            takeover < BEFORE_IT_ENDS,
            "at once, not when the lease runs out"
        );
        assert!(leader.ended().await.success());
        assert!(
            leader.log().contains("released the lease"),
            "{}",
            leader.log()
        );
        forwarder.remove(&leader);
    }
    assert_eq!(
        installation.failed_open().await - failed,
        0.0,
        "{:?}",
        installation.call_errors()
    );

    let leader = replicas.swap_remove(led(&replicas).await.0);
    leader.signal("-KILL").await;
    let (_, takeover) = led(&replicas).await;
    println!("crash: the standby leads after {takeover:?}");
    assert!(!leader.ended().await.success());
    forwarder.remove(&leader);
    let lost = installation.failed_open().await - failed;
    println!("crash: {lost} calls failed open");
    // One writer, so one call in flight; the next goes to whom the Service still believes in for a moment.
    assert!(
        lost <= 1.0 + 200.0 / 50.0,
        "{:?}",
        installation.call_errors()
    );

    let writes = writes.stop().await.unwrap();
    let slowest = slowest(&writes);
    println!("{} writes, the slowest took {slowest:?}", writes.len());
    assert!(slowest < LATE, "{slowest:?}");
    everything_is_prefetched(&installation).await;
}

#[tokio::test]
async fn while_it_drains_it_answers_and_closes_and_a_second_signal_ends_it_at_once() {
    let installation = Installation::new().await;
    let replica = installation.replica("replica", &["--drain", "10m", "--lease-duration", "60s"]);
    installation.call_at(replica.port).await;
    replica.ready().await;
    let bundle = installation.bundles().await.swap_remove(0);
    let mut kept = Tls::trusting(&bundle).connect(replica.port).await.unwrap();
    assert!(!client::is_told_to_close(&mut kept).await.unwrap());
    replica.signal("-TERM").await;
    replica.says("", "released the lease").await;
    assert!(!replica.is_ready().await, "not ready, but there");
    // An API server goes on with the connections that it has, until it is told (kubernetes#127335).
    assert!(client::is_told_to_close(&mut kept).await.unwrap());
    let mut new = Tls::trusting(&bundle).connect(replica.port).await.unwrap();
    assert!(client::is_told_to_close(&mut new).await.unwrap());
    replica.signal("-TERM").await;
    // In far less than the ten minutes that it would drain.
    assert!(replica.ended().await.success());
}
