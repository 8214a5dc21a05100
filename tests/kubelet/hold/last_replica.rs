//! The last replica goes, and what ends holds then.

use std::time::{Duration, Instant};

use headstart_core::api::hold_mark::HoldMark;
use headstart_core::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::UNREACHABLE;
use super::outages::until_back;
use crate::cluster::{Cluster, alone, deployment, until, waiting};

/// Held rollouts.
const HOLDS: usize = 5;
/// From the end of the replicas until everything goes on.
pub(crate) const RESUME_LIMIT: Duration = Duration::from_secs(30);

/// Creates held Deployments in a namespace of their own.
pub(crate) async fn hold_some(cluster: &Cluster, namespace: &str) {
    cluster.namespace(namespace, Some("hold")).await;
    for index in 0..HOLDS {
        let name = format!("web-{index}");
        let web = deployment(namespace, &name, waiting(UNREACHABLE));
        cluster.apply(&web).await;
    }
    until("all to be held", async || {
        held(cluster, namespace).await.len() == HOLDS
    })
    .await;
}

/// The Deployments of a namespace that are held or paused.
pub(crate) async fn held(cluster: &Cluster, namespace: &str) -> Vec<String> {
    let api: Api<Deployment> = cluster.api(namespace);
    let all = api.list(&ListParams::default()).await.unwrap();
    let is_held = |deployment: &Deployment| {
        let spec = deployment.spec.as_ref().unwrap();
        spec.paused == Some(true) || HoldMark::read(deployment).is_some()
    };
    let held = all.into_iter().filter(is_held);
    held.filter_map(|deployment| deployment.metadata.name)
        .collect()
}

/// A Deployment with the marks of a hold since and until these times from now.
fn marked(namespace: &str, name: &str, since: i64, until: i64) -> Value {
    let at = |seconds| Timestamp::now() + SignedDuration::from_secs(seconds);
    let mut marked = deployment(namespace, name, waiting(UNREACHABLE));
    marked["metadata"]["labels"] = json!({ HELD_LABEL: "true" });
    marked["metadata"]["annotations"] = json!({ HELD_SINCE: at(since), HELD_UNTIL: at(until) });
    marked["spec"]["paused"] = json!(true);
    marked
}

#[tokio::test]
async fn the_last_replica_resumes_everything_a_job_what_is_overdue_and_a_new_replica_the_rest() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    let namespace = "hold-last";
    hold_some(cluster, namespace).await;
    cluster.scale_headstart(0).await;
    let begun = Instant::now();
    until("everything to go on", async || {
        held(cluster, namespace).await.is_empty()
    })
    .await;
    let took = begun.elapsed();
    println!("{HOLDS} rollouts go on {took:?} after the last replica was told to stop");
    assert!(took < RESUME_LIMIT, "{took:?}");
    until("the event", async || {
        let notes = cluster.events(namespace, "web-0", "RolloutResumed").await;
        notes
            .iter()
            .any(|note| note.contains("no other replica is left"))
    })
    .await;
    until("headstart to be gone", async || {
        cluster.replicas().await.is_empty()
    })
    .await;

    // As if every replica had been killed.
    let both = [("overdue", -60), ("late", 40)];
    for (name, until) in both {
        cluster.apply(&marked(namespace, name, -600, until)).await;
    }
    assert_eq!(held(cluster, namespace).await, ["late", "overdue"]);
    let job = "create job -n headstart --from=cronjob/headstart-release now";
    let job: Vec<_> = job.split(' ').collect();
    cluster.kubectl(&job).await;
    until("the job to end what is overdue", async || {
        held(cluster, namespace).await == ["late"]
    })
    .await;
    let logs = ["logs", "-n", "headstart", "job/now"];
    let said = cluster.kubectl(&logs).await;
    assert_eq!(said.trim(), format!("{namespace}/overdue resumed"));
    let job = ["delete", "job", "-n", "headstart", "now", "--wait=true"];
    cluster.kubectl(&job).await;

    cluster.scale_headstart(2).await;
    until_back(cluster).await;
    until("a new replica to end the rest", async || {
        held(cluster, namespace).await.is_empty()
    })
    .await;
    let delete = ["delete", "namespace", namespace, "--wait=false"];
    cluster.kubectl(&delete).await;
}
