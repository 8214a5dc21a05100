//! headstart finds out by itself that a policy is not enforced, and does nothing until it is.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::bounded;
use super::requests::Request;
use crate::admission::installation::{Installation, OWN, SHOP, deployment, until};

const POLICY: &str = "headstart-deletes-only-prefetch-pods";
const REPLICA: &str = "headstart-0";

async fn pods_of(installation: &Installation, deployment: &str) -> usize {
    let selector = format!("labelSelector=headstart.dev/deployment%3D{deployment}");
    let listed = Request::get(&format!("/api/v1/namespaces/{SHOP}/pods?{selector}"));
    let listed = listed.send(&installation.client).await.unwrap();
    listed["items"].as_array().unwrap().len()
}

/// The reasons of the events on headstart's own Deployment.
async fn said(installation: &Installation) -> Vec<String> {
    let events = Request::get(&format!("/apis/events.k8s.io/v1/namespaces/{OWN}/events"));
    let events = events.send(&installation.client).await.unwrap();
    let own = |event: &&Value| {
        event["regarding"]["name"] == "headstart" && event["regarding"]["kind"] == "Deployment"
    };
    let all = events["items"].as_array().unwrap().iter().filter(own);
    all.map(|event| {
        format!(
            "{}: {}",
            event["reason"].as_str().unwrap(),
            event["note"].as_str().unwrap()
        )
    })
    .collect()
}

#[tokio::test]
async fn policy_that_is_missing_is_found_by_the_self_test_and_stops_pods_and_holds() {
    let installation = Installation::new().await;
    let everyone = &installation.client;
    let own = bounded(&installation).await;
    // The replica is a process here; the pod stands for it.
    let pod = json!({ "metadata": { "name": REPLICA }, "spec": { "nodeName": "fake-0",
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{ "name": "headstart", "image": "a:1", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }] } });
    let pods = format!("/api/v1/namespaces/{OWN}/pods");
    let now = json!({ "gracePeriodSeconds": 0 });
    let delete = Request::delete(&format!("{pods}/{REPLICA}"), now);
    let _ = delete.send(everyone).await;
    Request::post(&pods, pod).send(everyone).await.unwrap();
    let binding =
        format!("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{POLICY}");
    Request::delete(&binding, json!({}))
        .send(everyone)
        .await
        .unwrap();
    until("the binding's end to be known", async || {
        let tried = Request::try_delete(&format!("{pods}/{REPLICA}"));
        tried.send(&own).await.is_ok()
    })
    .await;

    let flags = ["--require-policies", "--pod-name", REPLICA];
    let replica = installation.replica("replica", &flags);
    replica.ready().await;
    let deployments: Api<Deployment> = Api::namespaced(everyone.clone(), SHOP);
    let waits = deployment("waits", "app:1");
    deployments
        .create(&PostParams::default(), &waits)
        .await
        .unwrap();
    replica.says("", "allows what the ValidatingAdmissionPolicy headstart-deletes-only-prefetch-pods forbids").await;
    assert_eq!(pods_of(&installation, "waits").await, 0);
    assert_eq!(
        replica.metric("headstart_policy_enforced").await,
        6.0,
        "of seven"
    );
    until("an event on headstart's own Deployment", async || {
        said(&installation)
            .await
            .iter()
            .any(|event| event.starts_with("PolicyNotEnforced: ") && event.contains(POLICY))
    })
    .await;

    // It is there again: the self-test finds that out, and the prefetch goes on.
    installation.apply_manifests().await;
    replica
        .says("", "the API server enforces headstart's policies")
        .await;
    assert_eq!(replica.metric("headstart_policy_enforced").await, 7.0);
    let goes = deployment("goes", "app:1");
    deployments
        .create(&PostParams::default(), &goes)
        .await
        .unwrap();
    until("its prefetch", async || {
        pods_of(&installation, "goes").await == 2
    })
    .await;
    delete.send(everyone).await.unwrap();
}
