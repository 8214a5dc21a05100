use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};

use axum::http::{Method, Request, Response, StatusCode};
use headstart_core::hold::{GateClosed, ResumeHealth};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// An API server with one Lease, whose watches are silent.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<(Option<Value>, u64)>>);

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "headstart")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let one = parts.uri.path().ends_with("/leases/headstart");
        if parts.method == Method::GET && !one {
            return pending().await;
        }
        let (lease, version) = &mut *self.0.lock().unwrap();
        if parts.method != Method::GET {
            let mut written: Value = serde_json::from_slice(&body).unwrap();
            let known = lease
                .as_ref()
                .map(|lease| &lease["metadata"]["resourceVersion"]);
            let read = written["metadata"].get("resourceVersion");
            if known != read {
                let conflict = json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409});
                let answer = Body::from(conflict.to_string().into_bytes());
                let response = Response::builder().status(StatusCode::CONFLICT);
                return response.body(answer).unwrap();
            }
            *version += 1;
            written["metadata"]["resourceVersion"] = json!(version.to_string());
            *lease = Some(written);
        }
        let (status, answer) = match lease {
            Some(lease) => (StatusCode::OK, lease.clone()),
            None => (
                StatusCode::NOT_FOUND,
                json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}),
            ),
        };
        let answer = Body::from(answer.to_string().into_bytes());
        let response = Response::builder().status(status).body(answer);
        response.unwrap()
    }

    /// Sets the data back, as a restored etcd does.
    fn restore(&self, version: u64) {
        let mut data = self.0.lock().unwrap();
        data.1 = version;
        let lease = data.0.as_mut().unwrap();
        lease["metadata"]["resourceVersion"] = json!(version.to_string());
    }
}

struct Elected {
    server: Server,
    report: ControllerReport,
    gate: HoldGate,
    heartbeats: Heartbeats,
    leading: watch::Receiver<bool>,
    election: tokio::task::JoinHandle<Result<(), Restored>>,
    fence: Fence,
}

/// A replica with a lease of 6 s.
fn elector(server: &Server, identity: &str) -> LeaderElector {
    LeaderElector {
        client: server.client(),
        namespace: "headstart".to_owned(),
        name: "headstart".to_owned(),
        identity: identity.to_owned(),
        duration: Duration::from_secs(6),
        clock: Clock::system(),
        fence: Fence::default(),
        heartbeats: Heartbeats::default(),
        report: ControllerReport::default(),
        gate: HoldGate::default(),
    }
}

/// A replica that leads.
async fn elected() -> Elected {
    let server = Server::default();
    let elector = elector(&server, "one");
    let (heartbeats, fence) = (elector.heartbeats.clone(), elector.fence.clone());
    let (report, gate) = (elector.report.clone(), elector.gate.clone());
    let sender = watch::Sender::new(false);
    let mut leading = sender.subscribe();
    let tokens = [(); 2].map(|()| CancellationToken::new());
    let [stop, finished] = tokens;
    let election = tokio::spawn(elector.run(sender, stop, finished));
    leading.wait_for(|leads| *leads).await.unwrap();
    Elected {
        server,
        report,
        gate,
        heartbeats,
        leading,
        election,
        fence,
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_controller_hangs_loses_its_lease_and_does_not_take_it_again() {
    let mut elected = elected().await;
    let started = Instant::now();
    let controller = elected.heartbeats.begin(CONTROLLER);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        controller.beat();
        assert!(*elected.leading.borrow_and_update());
    }
    assert_eq!(started.elapsed(), Duration::from_secs(60));
    let hangs = Instant::now();
    elected.leading.wait_for(|leads| !leads).await.unwrap();
    // The last renewal came at most half of the lease after the last turn, and two thirds of a lease later it is lost.
    assert!(
        hangs.elapsed() <= Duration::from_secs(7),
        "{:?}",
        hangs.elapsed()
    );
    assert!(!elected.fence.is_open());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!*elected.leading.borrow_and_update());
    controller.beat();
    elected.leading.wait_for(|leads| *leads).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restored_etcd_ends_the_election_and_what_is_written_under_the_lease() {
    let elected = elected().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    elected.server.restore(3);
    let restored = Instant::now();
    assert!(elected.election.await.unwrap().is_err());
    assert!(restored.elapsed() <= Duration::from_secs(1));
    assert!(!*elected.leading.borrow());
    assert!(!elected.fence.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_says_how_many_rollouts_are_held_and_whether_they_are_resumed() {
    let elected = elected().await;
    let annotations = || {
        let lease = elected.server.0.lock().unwrap().0.clone().unwrap();
        let annotations = &lease["metadata"]["annotations"];
        let of = |name: &str| annotations[format!("headstart.dev/{name}")].clone();
        (of("holding"), of("resumes"))
    };
    assert_eq!(annotations(), (Value::Null, json!("ok")));
    let closed = || elected.gate.closed(true, Instant::now());
    assert_eq!(closed(), None);
    for (resumes, value, gate) in [
        (ResumeHealth::Ok, "ok", None),
        (
            ResumeHealth::Failing,
            "failing",
            Some(GateClosed::ResumesFail),
        ),
    ] {
        elected.report.set(3, resumes);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(annotations(), (json!("3"), json!(value)));
        assert_eq!(closed(), gate);
    }
    elected.report.clear();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(annotations(), (json!("3"), json!("ok")));
    // The controller does not begin, so nothing is resumed.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(annotations(), (json!("3"), json!("failing")));
}

#[tokio::test(start_paused = true)]
async fn of_two_replicas_that_stop_one_is_the_last() {
    let server = Server::default();
    let replicas = ["one", "two"].map(|identity| elector(&server, identity));
    let started = Instant::now();
    let [one, two] = &replicas;
    let last = tokio::join!(one.take_if_last(), two.take_if_last());
    assert!(last.0 != last.1, "{last:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    // A third replica that stops later finds a holder that does not renew, and then gives the lease up.
    let winner = if last.0 { one } else { two };
    winner.give_up().await;
    let started = Instant::now();
    assert!(elector(&server, "three").take_if_last().await);
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_not_the_last_while_another_renews_the_lease() {
    let elected = elected().await;
    let started = Instant::now();
    let standby = elector(&elected.server, "two");
    assert!(!standby.take_if_last().await);
    assert!(started.elapsed() < Duration::from_secs(2));
    elected.election.abort();
    let killed = Instant::now();
    assert!(standby.take_if_last().await, "the leader is dead");
    assert!(killed.elapsed() < Duration::from_secs(8));
}
