//! Every client can reach the port: the effect of the worst of them on memory, and on the calls of others.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use testbed::headstart::Profile;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::admission::certificates::served;
use crate::admission::client::{self, Tls, is_allowed, post, review};
use crate::admission::healthy::Healthy;
use crate::admission::installation::Installation;
use crate::admission::replica::Replica;
use testbed::harness::length;

/// The most memory that the process may take beyond the amount before, in MiB. 64 are for bodies, 24 for the
/// connections (512 of 46 KiB), the rest for memory that the allocator keeps. The manifests' limit is 256.
pub(crate) const BOUND: u64 = 144;
/// As on a node of 16 cores, on any machine: the allocator keeps memory for each thread.
const THREADS: &str = "16";

/// Optimised like a release: its memory and its speed count here.
pub(crate) async fn released() -> Command {
    let binary = tokio::task::spawn_blocking(|| testbed::headstart::binary(Profile::Ci));
    let mut command = Command::new(binary.await.unwrap().unwrap());
    command.env("TOKIO_WORKER_THREADS", THREADS);
    command
}

/// One replica of that.
pub(crate) async fn one_replica(installation: &Installation) -> (Replica, Tls) {
    let replica = installation.replica_by(released().await, "replica", &[]);
    installation.call_at(replica.port).await;
    replica.ready().await;
    served(installation, replica.port).await;
    let bundle = installation.bundles().await.swap_remove(0);
    (replica, Tls::trusting(&bundle))
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_takes_bounded_memory_and_healthy_calls_are_answered() {
    let installation = Installation::with_the_machine().await;
    let (replica, tls) = one_replica(&installation).await;
    let before = replica.memory("VmRSS");
    let port = replica.port;

    let healthy = Healthy::start(&tls, port);
    tokio::time::sleep(Duration::from_secs(3)).await;
    // One stall of a busy machine is the 99th percentile of a short phase.
    let percentile = length("percentile of the healthy calls", 50, 99);
    healthy.stop("nothing else", percentile).await;

    // 1,500 connections that send nothing: three times as many as there is room for.
    let healthy = Healthy::start(&tls, port);
    let mut silent = Vec::new();
    for _ in 0..15 {
        for _ in 0..100 {
            silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        // The oldest that sends nothing makes room for a new one: not all at once, or that would be a healthy one.
        healthy.connects().await;
    }
    // And 500 that send a byte of a request head, and no more.
    let mut slow = Vec::new();
    for _ in 0..500 {
        if let Ok(mut stream) = tls.connect(port).await {
            let _ = stream.write_all(b"P").await;
            slow.push(stream);
        }
    }
    let slowloris = healthy.stop("slowloris", percentile).await;
    drop((silent, slow));

    let healthy = Healthy::start(&tls, port);
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(tls.connect(port).await.unwrap());
    }
    let idling = healthy.stop("1,000 idle connections", percentile).await;
    println!(
        "with 1,000 idle connections: {} MiB",
        replica.memory("VmRSS")
    );
    drop(idle);

    let healthy = Healthy::start(&tls, port);
    let mut clients = JoinSet::new();
    for client in 0..20 {
        let tls = tls.clone();
        clients.spawn(async move {
            let mut stream = tls.connect(port).await.unwrap();
            for index in 0..500 {
                let body = malformed(client * 500 + index);
                let (status, _) = post(&mut stream, "/mutate", &body).await.unwrap();
                assert_eq!(status, 400, "{body}");
            }
        });
    }
    clients.join_all().await;
    let malformed = healthy.stop("10,000 malformed reviews", percentile).await;

    let body: Arc<str> = review("large", 7 * 1024 * 1024 - 2048).into();
    // Connected first, so that all of them send at once.
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(tls.connect(port).await.unwrap());
    }
    let healthy = Healthy::start(&tls, port);
    let mut clients = JoinSet::new();
    for mut stream in streams {
        let body = body.clone();
        clients.spawn(async move {
            // Its own patience, as an API server's is: allowed, whether there was room to read it or not.
            is_allowed(&post(&mut stream, "/mutate?timeout=30s", &body).await)
        });
    }
    let allowed = clients.join_all().await;
    assert!(allowed.into_iter().all(|allowed| allowed));
    let large = healthy.stop("100 bodies of 7 MiB", percentile).await;

    let (peak, after) = (replica.memory("VmHWM"), replica.memory("VmRSS"));
    println!("memory: {before} MiB before, {peak} at most, {after} after");
    assert!(
        peak <= before + BOUND,
        "{peak} MiB at most, {before} before"
    );
    // The limit that users are promised is far below a webhook's timeout, on a machine that does all of this at once.
    for latency in [slowloris, idling, malformed, large] {
        assert!(latency < Duration::from_secs(2), "{latency:?}");
    }
    assert!(replica.is_ready().await);
}

/// Forged reviews for ever new Deployments of the longest names.
#[tokio::test(flavor = "multi_thread")]
async fn forged_reviews_cause_no_pull_and_are_not_remembered_without_end() {
    let installation = Installation::new().await;
    let (replica, tls) = one_replica(&installation).await;
    let before = replica.memory("VmRSS");
    let mut clients = JoinSet::new();
    for client in 0..10 {
        let tls = tls.clone();
        let port = replica.port;
        clients.spawn(async move {
            let mut stream = tls.connect(port).await.unwrap();
            for index in 0..1000 {
                let name = format!("{}-{client}-{index}", "x".repeat(240));
                let answer = post(&mut stream, "/mutate", &review(&name, 10)).await;
                assert!(client::is_allowed(&answer), "{answer:?}");
            }
        });
    }
    clients.join_all().await;
    let after = replica.memory("VmRSS");
    println!("10,000 forged reviews: {before} MiB before, {after} after");
    assert!(after <= before + 16);
    assert_eq!(replica.metric("headstart_plans_total").await, 0.0);
    assert_eq!(
        replica
            .metric("headstart_prefetch_pods_created_total")
            .await,
        0.0
    );
    assert!(replica.metric("headstart_admission_reviews_total").await >= 10_000.0);
}

/// No two alike, none a review.
fn malformed(index: usize) -> String {
    let review = review("malformed", 64);
    match index % 5 {
        0 => review[..review.len() - 1 - index % 200].to_owned(),
        1 => review.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1"),
        2 => format!("[{index}]"),
        3 => review.replace("\"uid\"", "\"udi\""),
        _ => "[".repeat(1 + index),
    }
}
