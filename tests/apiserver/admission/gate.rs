//! Nothing is held unless a leader lives that resumes it, and an overdue hold ends without any replica.

use std::time::{Duration, Instant};

use headstart_core::api::hold_mark::HoldMark;
use headstart_core::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::PostParams;
use serde_json::Value;
use testbed::process::Wait;
use tokio::process::Command;

use crate::admission::certificates::served;
use crate::admission::client::{self, Tls};
use crate::admission::installation::{Installation, OWN, PATIENCE, SHOP, deployment, until};
use crate::admission::replica::Replica;

/// The longest time that a standby may take to lead after the leader hangs.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(15);

async fn until_it_leads(replica: &Replica) {
    until("the replica to lead", async || replica.leads().await).await;
}

async fn holder(installation: &Installation) -> String {
    let leases: Api<Lease> = Api::namespaced(installation.client.clone(), OWN);
    let lease = leases.get("headstart").await.unwrap();
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    holder.unwrap_or_default()
}

/// The answer of a replica to a review in a namespace that holds.
#[derive(Debug)]
struct Answer {
    is_held: bool,
    warning: String,
}

async fn ask(bundle: &str, replica: &Replica) -> Answer {
    let mut stream = Tls::trusting(bundle).connect(replica.port).await.unwrap();
    let review = client::review("web", 10);
    let answer = client::post(&mut stream, "/hold", &review).await;
    assert!(client::is_allowed(&answer), "{answer:?}");
    let answer: Value = serde_json::from_str(&answer.unwrap().1).unwrap();
    let response = &answer["response"];
    let warning = response["warnings"][0].as_str().unwrap_or_default();
    Answer {
        is_held: response.get("patch").is_some(),
        warning: warning.to_owned(),
    }
}

#[tokio::test]
async fn while_the_leader_hangs_nothing_is_held_until_a_standby_leads() {
    let installation = Installation::new().await;
    let leader = installation.replica("leader", &[]);
    installation.call_at(leader.port).await;
    leader.ready().await;
    until_it_leads(&leader).await;
    let standby = installation.replica("standby", &[]);
    standby.ready().await;
    let bundle = installation.bundles().await.swap_remove(0);
    until("the standby to see a renewal", async || {
        ask(&bundle, &standby).await.is_held
    })
    .await;
    let before = holder(&installation).await;

    leader.signal("-STOP").await;
    let stopped = Instant::now();
    let wait = Wait::new("the gate to close", PATIENCE);
    let mut last_hold = stopped;
    let closed = loop {
        let answer = ask(&bundle, &standby).await;
        if !answer.is_held {
            break answer;
        }
        last_hold = Instant::now();
        wait.pause().await.unwrap();
    };
    // A leader that lives would have given up by then too.
    let open_for = last_hold.duration_since(stopped);
    assert!(open_for < Duration::from_secs(5), "{open_for:?}");
    let expected = "not held, the rollout goes on: no replica of headstart leads";
    assert!(closed.warning.contains(expected), "{closed:?}");
    let wait = Wait::new("the gate to open", PATIENCE);
    while !ask(&bundle, &standby).await.is_held {
        wait.pause().await.unwrap();
    }
    let took = stopped.elapsed();
    assert_ne!(holder(&installation).await, before, "another leads first");
    until_it_leads(&standby).await;
    println!("held for {open_for:?} after the leader hung, and again after {took:?}");
    assert!(took < TAKEOVER_LIMIT, "{took:?}");
    let refused = standby.metric("headstart_admission_not_held_total").await;
    assert!(refused >= 1.0, "{refused}");

    leader.signal("-CONT").await;
    // It finds that its time is over, or that another holds the Lease.
    leader.says("", "another replica").await;
    // A replica that is told to stop holds nothing, while it still answers.
    standby.signal("-TERM").await;
    until("the gate of the replica that stops to close", async || {
        let answer = ask(&bundle, &standby).await;
        answer
            .warning
            .contains("this replica of headstart is stopping")
    })
    .await;
}

/// A Deployment whose marks say that it is held since and until these times from now.
fn held(name: &str, since: i64, until: i64) -> Deployment {
    let at = |seconds| (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string();
    let mut held = deployment(name, "app:1");
    held.spec.as_mut().unwrap().paused = Some(true);
    let marks = [(HELD_SINCE, at(since)), (HELD_UNTIL, at(until))];
    let marks = marks.map(|(key, value)| (key.to_owned(), value));
    held.metadata.annotations = Some(marks.into());
    held.metadata.labels = Some([(HELD_LABEL.to_owned(), "true".to_owned())].into());
    held
}

#[tokio::test]
async fn overdue_holds_end_without_any_replica_and_others_stay() {
    let installation = Installation::new().await;
    let replicas = ["one", "two"].map(|name| installation.replica(name, &[]));
    installation.call_at(replicas[0].port).await;
    for replica in &replicas {
        replica.ready().await;
    }
    served(&installation, replicas[0].port).await;
    for replica in &replicas {
        replica.signal("-KILL").await;
        assert!(!replica.ended().await.success());
    }
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    for (name, since, until, is_overdue) in HOLDS {
        let held = held(name, since, until);
        let created = deployments.create(&PostParams::default(), &held).await;
        assert!(
            HoldMark::read(&created.unwrap()).is_some_and(|mark| mark.paused),
            "{name} {is_overdue}"
        );
    }
    // With the account of the CronJob, and nothing of the replicas.
    let account = installation.cluster;
    let account = account.service_account_kubeconfig(OWN, "headstart-release");
    let kubeconfig = account.await.unwrap();
    let release = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headstart"));
        command.env_clear().env("KUBECONFIG", &kubeconfig);
        let output = command.args(["release", "--overdue", "--grace=30s"]);
        let output = output.output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = release().await;
    for (name, _, _, is_overdue) in HOLDS {
        let stored = deployments.get(name).await.unwrap();
        let is_paused = stored.spec.as_ref().unwrap().paused == Some(true);
        assert_eq!(is_paused, !is_overdue, "{name}");
        assert_eq!(HoldMark::read(&stored).is_some(), !is_overdue, "{name}");
        let line = format!("{SHOP}/{name} resumed");
        assert_eq!(said.contains(&line), is_overdue, "{said}");
    }
    assert_eq!(release().await.trim(), "no hold is overdue");
}

/// Name, seconds from now since which and until which it is held, and whether that is overdue after a grace of 30 s.
const HOLDS: [(&str, i64, i64, bool); 4] = [
    ("overdue", -600, -60, true),
    ("over", -600, -10, false),
    ("held", -60, 240, false),
    // Its limit counts, and not what an edited mark says.
    ("edited", -3600, 240, true),
];
