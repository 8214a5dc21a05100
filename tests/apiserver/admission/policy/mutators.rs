//! Prefetch works where another webhook adds to every pod what such webhooks add: environment, a projected token, a label,
//! a toleration.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use testbed::process::Wait;

use super::requests::Request;
use super::{bounded, made, web};
use crate::admission::installation::{Installation, PATIENCE, SHOP, deployment, until};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// Returns a policy that does the same as the webhooks of cloud providers for the identity of pods.
fn mutator() -> Vec<Value> {
    let expression = r#"[
        JSONPatch{op: "add", path: "/metadata/labels/example.com~1injected", value: "yes"},
        JSONPatch{op: "add", path: "/spec/tolerations/-", value: Object.spec.tolerations{key: "example.com/gpu", operator: "Exists"}},
        JSONPatch{op: "add", path: "/spec/volumes/-", value: Object.spec.volumes{name: "aws-iam-token",
            projected: Object.spec.volumes.projected{sources: [Object.spec.volumes.projected.sources{
                serviceAccountToken: Object.spec.volumes.projected.sources.serviceAccountToken{
                    audience: "sts.amazonaws.com", expirationSeconds: 86400, path: "token"}}]}}}
    ] + object.spec.containers.transformList(i, c,
        JSONPatch{op: "add", path: "/spec/containers/" + string(i) + "/env", value: [
            Object.spec.containers.env{name: "AWS_WEB_IDENTITY_TOKEN_FILE",
                value: "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"}]}
    ) + object.spec.containers.transformList(i, c,
        JSONPatch{op: "add", path: "/spec/containers/" + string(i) + "/volumeMounts/-", value:
            Object.spec.containers.volumeMounts{name: "aws-iam-token", readOnly: true,
                mountPath: "/var/run/secrets/eks.amazonaws.com/serviceaccount"}}
    )"#;
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": { "name": "adds-things" },
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": { "resourceRules": [
                { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }] },
            // It takes volumes for granted.
            "matchConditions": [{ "name": "prefetch", "expression": "object.metadata.name.startsWith('prefetch-')" }],
            "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": expression } }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": { "name": "adds-things" },
        "spec": {
            "policyName": "adds-things",
            // A failed test leaves the policy in force. Tests of other namespaces go on.
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": SHOP } } },
        },
    });
    vec![policy, binding]
}

async fn remove_mutator(installation: &Installation) {
    for resource in [
        "mutatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
    ] {
        let path = format!("{GROUP}/{resource}/adds-things");
        let _ = Request::delete(&path, json!({}))
            .send(&installation.client)
            .await;
    }
}

fn has_additions(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let mounts = &spec["containers"][0]["volumeMounts"];
    pod["metadata"]["labels"]["example.com/injected"] == "yes"
        && spec["containers"][0]["env"][0]["name"] == "AWS_WEB_IDENTITY_TOKEN_FILE"
        && mounts
            .as_array()
            .is_some_and(|mounts| mounts.iter().any(|m| m["name"] == "aws-iam-token"))
        && spec["tolerations"]
            .as_array()
            .is_some_and(|all| all.iter().any(|t| t["key"] == "example.com/gpu"))
}

#[tokio::test]
async fn policy_tolerates_what_other_webhooks_add_to_prefetch_pods() {
    let installation = Installation::new().await;
    let everyone = &installation.client;
    let known = Request::get(&format!("{GROUP}/mutatingadmissionpolicies"))
        .send(everyone)
        .await;
    if known.is_err() {
        println!("skipped: this Kubernetes has no MutatingAdmissionPolicies (1.36)");
        return;
    }
    let own = bounded(&installation).await;
    let web = web(&installation).await;
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": mutator() });
    installation.apply(&list).await;
    let dry = format!("/api/v1/namespaces/{SHOP}/pods?dryRun=All");
    let probe = made(&web).swap_remove(0);
    until("the mutator to be in force", async || {
        let tried = Request::post(&dry, probe.clone()).send(&own).await;
        // Refused is no answer either: the assertion below says why.
        tried.as_ref().map_or(true, has_additions)
    })
    .await;
    for pod in made(&web) {
        let created = Request::post(&dry, pod).send(&own).await.unwrap();
        assert!(has_additions(&created), "{created}");
    }

    // And all the way: both nodes get the images, and no refusal is reported.
    let replica = installation.replica("replica", &["--require-policies"]);
    replica.ready().await;
    let deployments: Api<Deployment> = Api::namespaced(everyone.clone(), SHOP);
    // An image of its own: that of another Deployment of the namespace would be shared.
    let added = deployment("added", "added:1");
    deployments
        .create(&PostParams::default(), &added)
        .await
        .unwrap();
    let pods = Request::get(&format!(
        "/api/v1/namespaces/{SHOP}/pods?labelSelector=headstart.dev/deployment%3Dadded"
    ));
    let wait = Wait::new("the images on both nodes", PATIENCE);
    loop {
        let listed = pods.send(everyone).await.unwrap();
        let pods = listed["items"].as_array().unwrap();
        let done = |pod: &&Value| pod["status"]["phase"] == "Succeeded" && has_additions(pod);
        if pods.iter().filter(done).count() == 2 {
            break;
        }
        if let Err(error) = wait.pause().await {
            panic!("{error}: {}", replica.log());
        }
    }
    let events = Request::get(&format!("/apis/events.k8s.io/v1/namespaces/{SHOP}/events"));
    let events = events.send(everyone).await.unwrap();
    let blocked = |event: &&Value| {
        event["reason"] == "PrefetchBlocked" && event["regarding"]["name"] == "added"
    };
    assert_eq!(
        events["items"].as_array().unwrap().iter().find(blocked),
        None
    );
    remove_mutator(&installation).await;
}
