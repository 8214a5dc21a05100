//! Rotation, two replicas at once, and healing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use headstart::testing::{
    CaController, CaSettings, Channels, Clock, Lifetimes, Metrics, Resolver, TrustedRoots,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use testbed::process::Wait;
use testbed::writes::slowest;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::admission::client::{self, Tls};
use crate::admission::forwarder::Forwarder;
use crate::admission::installation::{Installation, OWN, PATIENCE, SHOP, deployment, until};
use crate::admission::replica::Replica;
use testbed::harness::length;

/// A leader keeps such a lease, even on a busy machine.
const STEADY: [&str; 2] = ["--lease-duration", "60s"];

/// The lifetimes of certificates, and the number of times that they are replaced.
#[derive(Debug)]
struct Rotation {
    lifetimes: [&'static str; 4],
    authorities: usize,
    leaves: usize,
}

async fn two_behind_a_service(
    installation: &Installation,
    flags: &[&str],
) -> (Forwarder, Replica, Replica) {
    let forwarder = Forwarder::start().await;
    let one = installation.replica("one", flags);
    let two = installation.replica("two", flags);
    installation.call_at(forwarder.port).await;
    one.ready().await;
    two.ready().await;
    forwarder.add(&one);
    forwarder.add(&two);
    served(installation, forwarder.port).await;
    (forwarder, one, two)
}

/// Waits until a client that trusts the published CAs is answered at this port, the API server among them.
pub(crate) async fn served(installation: &Installation, port: u16) {
    let wait = Wait::new("an answer through the published CA", PATIENCE);
    loop {
        let bundle = installation.bundles().await.swap_remove(0);
        if let Ok(mut stream) = Tls::trusting(&bundle).connect(port).await
            && client::is_allowed(
                &client::post(&mut stream, "/mutate", &client::review("probe", 10)).await,
            )
        {
            break;
        }
        wait.pause().await.unwrap();
    }
    called(installation).await;
}

/// Waits until the API server, which learns of a configuration a moment later, calls by it and is answered.
pub(crate) async fn called(installation: &Installation) {
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let probe = deployment("probe", "app:0");
    until("the API server to call", async || {
        let (calls, failed) = (installation.calls().await, installation.failed_open().await);
        deployments.create(&dry_run, &probe).await.unwrap();
        installation.calls().await > calls && installation.failed_open().await == failed
    })
    .await;
}

#[tokio::test]
async fn certificates_rotate_under_writes_without_one_failed_call() {
    let installation = Installation::new().await;
    // A leaf is replaced with half of its lifetime left: seconds, for a busy machine.
    let steadily = Rotation {
        lifetimes: ["--ca-lifetime", "24s", "--leaf-lifetime", "6s"],
        authorities: 1,
        leaves: 6,
    };
    let hastily = Rotation {
        lifetimes: ["--ca-lifetime", "16s", "--leaf-lifetime", "4s"],
        authorities: 37,
        leaves: 150,
    };
    let rotation = length("rotation under writes", steadily, hastily);
    let (_forwarder, one, two) = two_behind_a_service(&installation, &rotation.lifetimes).await;
    let (failed, calls) = (installation.failed_open().await, installation.calls().await);
    let errors = installation.call_errors().len();
    let writes = installation.writes().await;
    let replaced = || {
        let logs = [one.log(), two.log()].concat();
        ["it signs from now on", "serving a new certificate"]
            .map(|words| logs.matches(words).count())
    };
    Wait::new("certificates to be replaced", 10 * PATIENCE)
        .until(async || {
            let [authorities, leaves] = replaced();
            authorities >= rotation.authorities && leaves >= rotation.leaves
        })
        .await
        .unwrap();
    let writes = writes.stop().await.unwrap();
    let calls = installation.calls().await - calls;
    let [authorities, leaves] = replaced();
    println!(
        "{} writes, the slowest took {:?}, {calls} calls, {authorities} CAs, {leaves} leaves",
        writes.len(),
        slowest(&writes)
    );
    assert_eq!(
        installation.failed_open().await - failed,
        0.0,
        "{:?}",
        installation.call_errors()
    );
    assert_eq!(installation.call_errors()[errors..], [""; 0]);
    assert!(calls >= writes.len() as f64);
}

#[tokio::test]
async fn two_replicas_that_start_at_once_end_with_one_ca() {
    let installation = Installation::new().await;
    for _ in 0..length("two replicas at once", 3, 50) {
        installation.forget_state().await;
        let one = installation.replica("one", &[]);
        let two = installation.replica("two", &[]);
        one.ready().await;
        two.ready().await;
        let secret = installation.secret().await.unwrap().data.unwrap();
        assert_eq!(
            secret.keys().collect::<Vec<_>>(),
            ["tls.crt", "tls.key"],
            "one CA, no rotation"
        );
        let ca = String::from_utf8(secret["tls.crt"].0.clone()).unwrap();
        for bundle in installation.bundles().await {
            assert_eq!(bundle.trim(), ca.trim());
        }
        for replica in [&one, &two] {
            Tls::trusting(&ca)
                .connect(replica.port)
                .await
                .expect("both serve a leaf of that CA");
        }
    }
}

async fn leader_of<'a>(one: &'a Replica, two: &'a Replica) -> &'a Replica {
    let wait = Wait::new("one of two to lead", PATIENCE);
    loop {
        match (one.leads().await, two.leads().await) {
            (true, false) => return one,
            (false, true) => return two,
            _ => wait.pause().await.unwrap(),
        }
    }
}

#[tokio::test]
async fn what_a_person_breaks_by_hand_heals_and_is_said() {
    let installation = Installation::new().await;
    let (forwarder, one, two) = two_behind_a_service(&installation, &STEADY).await;
    let leader = leader_of(&one, &two).await;
    let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), OWN);
    let healed = async |before: &[String]| {
        let started = Instant::now();
        let wait = Wait::new("another CA that is published and signs", PATIENCE);
        loop {
            let ca = installation.secret().await.and_then(|secret| secret.data);
            let ca = ca.map(|mut data| data.remove("tls.crt").unwrap_or_default().0);
            let ca = String::from_utf8(ca.unwrap_or_default()).unwrap();
            let bundles = installation.bundles().await;
            if ca.contains("BEGIN")
                && !before.iter().any(|bundle| bundle.contains(ca.trim()))
                && bundles.iter().all(|bundle| bundle.contains(ca.trim()))
                && Tls::trusting(&ca).connect(forwarder.port).await.is_ok()
            {
                return started.elapsed();
            }
            wait.pause().await.unwrap();
        }
    };

    let before = leader.log();
    installation.set_bundles(b"").await;
    let said = leader
        .says(&before, "wrote the CA into the webhook configuration")
        .await;
    served(&installation, forwarder.port).await;
    println!("caBundle emptied: healed after {said:?}");
    until("every caBundle to be filled", async || {
        let bundles = installation.bundles().await;
        bundles.iter().all(|bundle| bundle.contains("BEGIN"))
    })
    .await;
    let filled = installation.bundles().await;

    // From here on the API server must not notice anything.
    let writes = installation.writes().await;
    let failed = installation.failed_open().await;
    secrets
        .delete("headstart-ca", &DeleteParams::default())
        .await
        .unwrap();
    leader.says("", "it was deleted").await;
    println!(
        "Secret deleted: another CA after {:?}",
        healed(&filled).await
    );

    let before = installation.bundles().await;
    let garbage = serde_json::json!({"data": {"tls.crt": ByteString(b"garbage".to_vec())}});
    secrets
        .patch(
            "headstart-ca",
            &PatchParams::default(),
            &Patch::Merge(garbage),
        )
        .await
        .unwrap();
    leader.says("", "it held no usable CA").await;
    println!(
        "Secret with garbage: another CA after {:?}",
        healed(&before).await
    );
    writes.stop().await.unwrap();
    assert_eq!(
        installation.failed_open().await - failed,
        0.0,
        "{:?}",
        installation.call_errors()
    );
}

/// In this process, because a machine's clock cannot be moved for one of its processes.
#[tokio::test]
async fn an_expired_leaf_is_replaced_when_the_clock_says_so() {
    let installation = Installation::new().await;
    let moved = Arc::new(AtomicI64::new(0));
    let clock = Clock::from_fn({
        let moved = moved.clone();
        move || {
            OffsetDateTime::now_utc()
                + Duration::from_secs(moved.load(Ordering::Relaxed).unsigned_abs())
        }
    });
    let bundle = watch::Sender::new(None);
    let trusted = watch::Sender::new(TrustedRoots::default());
    let registered = watch::Sender::new(false);
    let leading = watch::Sender::new(true);
    let channels = Channels {
        leading: leading.subscribe(),
        trusted: trusted.subscribe(),
        bundle: bundle.clone(),
        registered: registered.clone(),
    };
    // This task publishes each bundle at once.
    let mut to_publish = bundle.subscribe();
    tokio::spawn(async move {
        while to_publish.changed().await.is_ok() {
            let bundle: Option<String> = to_publish.borrow_and_update().clone();
            trusted.send_replace(TrustedRoots::of(bundle.unwrap_or_default().as_bytes()));
        }
    });
    let metrics = Arc::new(Metrics::default());
    let settings = CaSettings {
        namespace: OWN.into(),
        secret: "clock-ca".into(),
        names: vec!["127.0.0.1".into()],
        // The clock is looked at after half of a leaf's lifetime.
        lifetimes: Lifetimes {
            ca: Duration::from_secs(40),
            leaf: Duration::from_secs(10),
        },
    };
    let resolver = Arc::new(Resolver::default());
    let mut controller = CaController::new(
        installation.client.clone(),
        settings,
        clock,
        resolver,
        metrics.clone(),
        channels,
    );
    controller.start().await.unwrap();
    let keeping = tokio::spawn(controller.run());
    let mut registration = registered.subscribe();
    registration
        .wait_for(|registered| *registered)
        .await
        .unwrap();

    // A leaf, and then the CA too, slept through.
    for hours in [1, 1000] {
        let expected = OffsetDateTime::now_utc().unix_timestamp() + hours * 3600;
        moved.store(hours * 3600, Ordering::Relaxed);
        let started = Instant::now();
        let wait = Wait::new("a certificate that is valid then", PATIENCE);
        loop {
            let text = metrics.encode();
            let expiry = |name: &str| {
                let line = text.lines().find(|line| line.starts_with(name)).unwrap();
                line.rsplit(' ').next().unwrap().parse::<i64>().unwrap()
            };
            if expiry("headstart_certificate_expiry_timestamp_seconds") > expected
                && expiry("headstart_ca_expiry_timestamp_seconds") > expected
                && *registration.borrow_and_update()
            {
                break;
            }
            wait.pause().await.unwrap();
        }
        println!(
            "{hours} h slept through: healed after {:?}",
            started.elapsed()
        );
    }
    keeping.abort();
}
