//! A node gains no token of the workload's ServiceAccount by a prefetch pod.

use kube::Client;
use kube::config::AuthInfo;
use serde_json::{Value, json};

use super::requests::Request;
use super::{bounded, made, pods, web};
use crate::admission::installation::{Installation, SHOP, until};

/// As the kubelet of a node.
fn kubelet(installation: &Installation, node: &str) -> Client {
    let mut config = installation.cluster.client_config().unwrap();
    config.auth_info = AuthInfo {
        token: Some(installation.cluster.admin_token().to_owned().into()),
        impersonate: Some(format!("system:node:{node}")),
        impersonate_groups: Some(vec!["system:nodes".to_owned()]),
        ..AuthInfo::default()
    };
    Client::try_from(config).unwrap()
}

/// Asks for a token of the ServiceAccount `builder`, bound to a pod.
fn token(pod: &Value) -> Request {
    let metadata = &pod["metadata"];
    let bound = json!({ "kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"] });
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "audiences": [], "boundObjectRef": bound } });
    Request::post(
        &format!("/api/v1/namespaces/{SHOP}/serviceaccounts/builder/token"),
        request,
    )
}

#[tokio::test]
async fn policy_or_shape_gives_a_node_no_token_of_the_workloads_service_account() {
    let installation = Installation::new().await;
    let everyone = &installation.client;
    let own = bounded(&installation).await;
    installation.apply(&pods::builder()).await;
    let mut web = web(&installation).await;
    web.workload.terms.service_account = Some("builder".into());

    // The workload runs on the first node; its images are prefetched to the second.
    let path = format!("/api/v1/namespaces/{SHOP}/pods");
    let runs = json!({ "metadata": { "name": "web-1" }, "spec": { "nodeName": "fake-0", "serviceAccountName": "builder",
        "containers": [{ "name": "a", "image": "a:1" }] } });
    let runs = Request::post(&path, runs).send(everyone).await.unwrap();
    let (first, second) = (
        kubelet(&installation, "fake-0"),
        kubelet(&installation, "fake-1"),
    );
    // The node authorizer learns of a pod by a watch. That the first node gets a token shows that it can be had at all.
    until("the first node to have its token", async || {
        token(&runs).send(&first).await.is_ok()
    })
    .await;
    for mut pod in made(&web) {
        pod["spec"]["nodeName"] = "fake-1".into();
        let stored = Request::post(&path, pod).send(&own).await.unwrap();
        let name = stored["metadata"]["name"].as_str().unwrap();
        // Once it may read the pod's pull secret, or the pod, the authorizer knows that the pod is there.
        let sees = Request::get(&format!("{path}/{name}"));
        until("the second node to see its pod", async || {
            sees.send(&second).await.is_ok()
        })
        .await;
        for bound in [&stored, &runs] {
            match token(bound).send(&second).await {
                Err(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{}", status.message),
                other => panic!("a token of the workload: {other:?}"),
            }
        }
        let now = json!({ "gracePeriodSeconds": 0 });
        Request::delete(&format!("{path}/{name}"), now)
            .send(everyone)
            .await
            .unwrap();
    }
    let now = json!({ "gracePeriodSeconds": 0 });
    Request::delete(&format!("{path}/web-1"), now)
        .send(everyone)
        .await
        .unwrap();
}
