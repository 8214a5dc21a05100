//! An API server that goes, and one that is hard to reach.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt as _;
use headstart::domain::contract::{MANAGED_BY_LABEL, MANAGER};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use testbed::Component;
use testbed::headstart::Local;
use testbed::progress::say;
use tokio::net::TcpListener;

use crate::bed::{Bed, bed, binary, deployment, is_long, phase, until};

const NODES: usize = 300;
/// Most requests in a minute in which nothing happens: the leader reads and renews its lease 7.5 times each per lease
/// of 2 s, as the tests have it, which is 450; each of the watches is begun again every five minutes, and after trouble
/// sooner. With the default of 6 s a lease, a leader asks 150 times a minute. A loop that runs hot asks thousands of times.
const IDLE_PER_MINUTE: usize = 700;

async fn all_warm(bed: &Bed, namespace: &str, image: &str) {
    until(&format!("{image} on {NODES} nodes"), async || {
        // While the API server is away, there is nothing to count.
        let pods: Api<Pod> = bed.api(namespace);
        if pods.list(&ListParams::default().limit(1)).await.is_err() {
            return false;
        }
        let warm = bed.warm(namespace).await;
        let of_web = warm.get("web").into_iter().flatten();
        of_web.filter(|(_, found)| found == image).count() == NODES
    })
    .await;
}

/// Shows pods that are not done to the fake kubelets again and again. A kubelet looks at its pods every minute and writes
/// again what could not be stored. kwok gives a pod up on any answer like etcd's timeout (500), and looks at it again
/// only when it changes; even when kwok is started anew, it passes over pods of a node whose lease it has taken and
/// not seen in its own cache yet.
async fn remind_of_pods(bed: &Bed, namespace: &str) {
    let api: Api<Pod> = bed.api(namespace);
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
    let mut turn = bed().await;
    let bed = turn.as_mut().unwrap();
    // What was done before the outage is still there when the rest is done.
    bed.keep_pods().await;
    bed.namespace("outage").await;
    let web = |image: &str| deployment("outage", "web", "third=true", &[image]);
    let begun = async |image: &str, before: usize| {
        bed.apply(&web(image)).await;
        until("the fan-out to begin", async || {
            bed.writes("outage", "create").len() > before + 20
        })
        .await;
    };

    begun("acme/web:1", 0).await;
    bed.plane.restart(Component::ApiServer).await.unwrap();
    all_warm(bed, "outage", "acme/web:1").await;

    begun("acme/web:2", NODES).await;
    bed.plane.stop_component(Component::Etcd);
    // As long as is asked of it: there is no condition to wait for.
    tokio::time::sleep(Duration::from_secs(30)).await;
    bed.plane.start_component(Component::Etcd).await.unwrap();
    let touching = remind_of_pods(bed, "outage");
    tokio::select! {
        () = all_warm(bed, "outage", "acme/web:2") => {}
        () = touching => {}
    }
    let made = bed.made_once("outage");
    // What was stored as the API server was killed is not in its log.
    assert!(made > NODES * 9 / 10, "{made}");
    bed.clear("outage").await;

    // Nothing happens now, and little is asked.
    let before = bed.requests();
    let seconds = if is_long() { 60 } else { 20 };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let per_minute = (bed.requests() - before) * 60 / usize::try_from(seconds).unwrap();
    eprintln!("{per_minute} requests a minute while idle, of {IDLE_PER_MINUTE}");
    assert!(per_minute < IDLE_PER_MINUTE);
    bed.reset().await;
}

/// Stands between headstart and the API server, and misbehaves.
struct Trouble {
    client: Client,
    requests: AtomicUsize,
    on: AtomicBool,
}

impl Trouble {
    /// Of every five requests one is refused for load, one in fifteen each: too many, broken, no answer. Watches are
    /// cut after a second.
    async fn pass(
        State(trouble): State<Arc<Self>>,
        request: Request,
    ) -> Result<Response, Infallible> {
        let on = trouble.on.load(Ordering::Relaxed);
        let number = trouble.requests.fetch_add(1, Ordering::Relaxed);
        if on && number.is_multiple_of(5) {
            let code = match number / 5 % 3 {
                0 => 429,
                1 => 500,
                _ => {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    504
                }
            };
            let answer = Response::builder()
                .status(code)
                .header("Retry-After", "1")
                .body(Body::from("trouble"));
            return Ok(answer.unwrap());
        }
        let watches = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let mut upstream = http::Request::builder().method(parts.method).uri(parts.uri);
        for name in ["content-type", "accept"] {
            if let Some(value) = parts.headers.get(name) {
                upstream = upstream.header(name, value);
            }
        }
        let upstream = upstream
            .body(kube::client::Body::from(body.to_vec()))
            .unwrap();
        let Ok(answer) = trouble.client.send(upstream).await else {
            let gone = Response::builder().status(502).body(Body::empty());
            return Ok(gone.unwrap());
        };
        let (parts, body) = answer.into_parts();
        let data = body.into_data_stream();
        let body = if on && watches {
            let end = tokio::time::sleep(Duration::from_secs(1));
            Body::from_stream(data.take_until(end))
        } else {
            Body::from_stream(data)
        };
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        if let Some(kind) = parts.headers.get("content-type") {
            response.headers_mut().insert("content-type", kind.clone());
        }
        Ok(response)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_of_all_requests_failing_and_watches_cut_every_second_is_survived() {
    let mut turn = bed().await;
    let bed = turn.as_mut().unwrap();
    let file = Kubeconfig::read_from(&bed.kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap();
    config.default_retry = false;
    config.read_timeout = None;
    let trouble = Arc::new(Trouble {
        client: Client::try_from(config).unwrap(),
        requests: AtomicUsize::new(0),
        on: AtomicBool::new(false),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Router::new()
        .fallback(Trouble::pass)
        .with_state(trouble.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, proxy).await });
    let through = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
        "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "none", "user": {} }],
        "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "none" } }],
    });
    let kubeconfig = bed.plane.dir().join("proxy.kubeconfig");
    std::fs::write(&kubeconfig, through.to_string()).unwrap();

    // The only replica, so that all it does passes through. Its lease is longer, so that it keeps it.
    bed.replicas.clear();
    let flags = ["--retain=60s", "--lease-duration=30s"];
    let replica = Local::start_through(&bed.plane, &binary(), &kubeconfig, &flags).await;
    let replica = replica.unwrap();
    bed.namespace("trouble").await;
    trouble.on.store(true, Ordering::Relaxed);
    let (begun, before) = (Instant::now(), trouble.requests.load(Ordering::Relaxed));
    let seconds = if is_long() { 60 } else { 15 };
    let mut rollouts = 0;
    while rollouts < 2 || begun.elapsed() < Duration::from_secs(seconds) {
        rollouts += 1;
        let image = format!("acme/web:{rollouts}");
        bed.apply(&deployment("trouble", "web", "third=true", &[&image]))
            .await;
        all_warm(bed, "trouble", &image).await;
    }
    let requests = trouble.requests.load(Ordering::Relaxed) - before;
    eprintln!(
        "{rollouts} rollouts to {NODES} nodes in {:.1} s of trouble, {requests} requests",
        begun.elapsed().as_secs_f64()
    );
    let creates = bed.plane.audit_events().unwrap();
    let made = creates.iter().filter(|event| {
        event.namespace == "trouble"
            && event.verb == "create"
            && event.resource == "pods"
            && event.code == 201
    });
    assert_eq!(made.count(), rollouts * NODES);
    // A pod costs a create, a refusal now and then, and a delete; a watch that is cut is begun again at most every
    // second, with its list.
    let bound = rollouts * NODES * 4 + usize::try_from(begun.elapsed().as_secs()).unwrap() * 40;
    assert!(requests < bound, "{requests} requests, of {bound}");

    trouble.on.store(false, Ordering::Relaxed);
    bed.clear("trouble").await;
    drop(replica);
    serving.abort();
    bed.reset().await;
}
