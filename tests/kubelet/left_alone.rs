//! Tests of objects that headstart must not touch, and of reviews of writes that are never stored.

use headstart_core::api::well_known::PREFETCH_LABEL;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::cluster::{Cluster, alone, deployment, shared, waiting};

/// The namespaces of system components, which no label opts in.
const SYSTEM: &str = "kube-system";

/// Prefetches once more in the namespace: what came before has been looked at when this is done.
async fn until_all_was_looked_at(cluster: &Cluster, namespace: &str) {
    let image = cluster.push(&format!("{namespace}/sentinel:1")).await;
    cluster
        .apply(&deployment(namespace, "sentinel", waiting(&image)))
        .await;
    cluster.until_prefetched(namespace, "sentinel", 1).await;
}

async fn was_asked_for(cluster: &Cluster, repository: &str) -> bool {
    let requests = cluster.nodes.registry().requests().await.unwrap();
    // Pushes come through the address that no node dials.
    requests
        .iter()
        .any(|request| request.repository == repository && request.node != "127.0.0.1")
}

#[tokio::test]
async fn what_is_not_opted_in_is_left_alone() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    cluster.namespace("without", None).await;
    cluster.namespace("partly", Some("enabled")).await;
    cluster.namespace("refusing", Some("disabled")).await;
    cluster.namespace("allowing", Some("allowed")).await;
    cluster
        .kubectl(&[
            "label",
            "namespace",
            SYSTEM,
            &format!("{PREFETCH_LABEL}=enabled"),
        ])
        .await;
    let image = cluster.push("alone/app:1").await;
    // No replicas: only a prefetch asks the registry for it.
    let none = |namespace: &str, name: &str| {
        let mut object = deployment(namespace, name, waiting(&image));
        object["spec"]["replicas"] = json!(0);
        object
    };
    cluster.apply(&none("without", "web")).await;
    cluster.apply(&none(SYSTEM, "web")).await;
    let mut disabled = none("partly", "web");
    disabled["metadata"]["labels"] = json!({ PREFETCH_LABEL: "disabled" });
    cluster.apply(&disabled).await;
    // Its own label is not enough where the namespace says nothing, or refuses.
    let own_label = |namespace: &str| {
        let mut object = none(namespace, "own-label");
        object["metadata"]["labels"] = json!({ PREFETCH_LABEL: "enabled" });
        object
    };
    for namespace in ["without", "refusing"] {
        cluster.apply(&own_label(namespace)).await;
    }
    cluster.apply(&none("allowing", "web")).await;

    until_all_was_looked_at(cluster, "partly").await;
    assert!(!was_asked_for(cluster, "alone/app").await);
    for namespace in ["without", "refusing", "allowing", SYSTEM] {
        assert_eq!(cluster.creates_in(namespace), 0, "{namespace}");
    }
    assert_eq!(cluster.creates_in("partly"), 3, "the sentinel's own");

    // A Deployment may opt in by itself where its namespace allows it.
    cluster.apply(&own_label("allowing")).await;
    cluster.until_prefetched("allowing", "own-label", 1).await;
    assert!(was_asked_for(cluster, "alone/app").await);
    cluster
        .kubectl(&["delete", "deployment", "-n", SYSTEM, "web"])
        .await;
    cluster
        .kubectl(&["label", "namespace", SYSTEM, &format!("{PREFETCH_LABEL}-")])
        .await;
}

/// Refuses Deployments that are named "refused", after every mutating webhook has been called.
fn refusal() -> Value {
    json!([
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": "no-refused" },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"],
                }] },
                "validations": [{ "expression": "object.metadata.name != 'refused'", "message": "refused by policy" }],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": "no-refused" },
            "spec": { "policyName": "no-refused", "validationActions": ["Deny"] },
        },
    ])
}

#[tokio::test]
async fn what_is_never_stored_is_never_pulled() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("unstored", Some("enabled")).await;
    let image = cluster.push("unstored/app:1").await;
    let object = |name: &str| deployment("unstored", name, waiting(&image));
    let calls = cluster.webhook_calls().await;

    for part in refusal().as_array().unwrap() {
        cluster.apply(part).await;
    }
    // A policy takes a moment to be in force.
    let refused = object("refused").to_string();
    let dry_run = ["create", "--dry-run=server", "-f", "-"];
    crate::cluster::until("the policy to be in force", async || {
        cluster
            .control_plane()
            .kubectl_with_input(&dry_run, &refused)
            .await
            .is_err()
    })
    .await;
    let error = cluster
        .control_plane()
        .kubectl_with_input(&["create", "-f", "-"], &refused)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused by policy"), "{error}");

    cluster
        .control_plane()
        .kubectl_with_input(&dry_run, &object("dry").to_string())
        .await
        .unwrap();
    assert!(
        cluster.webhook_calls().await >= calls + 3.0,
        "headstart did see them"
    );
    let answer = forge(cluster, &object("forged")).await;
    assert_eq!(answer["response"]["allowed"], true);

    until_all_was_looked_at(cluster, "unstored").await;
    assert!(!was_asked_for(cluster, "unstored/app").await);
    assert_eq!(cluster.creates_in("unstored"), 3, "the sentinel's own");
    cluster
        .kubectl(&[
            "delete",
            "validatingadmissionpolicybinding,validatingadmissionpolicy",
            "no-refused",
        ])
        .await;
}

/// Posts a review of a create straight to a replica, as any pod could.
async fn forge(cluster: &Cluster, object: &Value) -> Value {
    let client = cluster.control_plane().client().unwrap();
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client);
    let configuration = configurations.get("headstart").await.unwrap();
    let ca = configuration.webhooks.unwrap()[0]
        .client_config
        .ca_bundle
        .clone()
        .unwrap();
    let replicas = ListParams::default().labels("app.kubernetes.io/name=headstart");
    let replicas = cluster
        .api::<Pod>("headstart")
        .list(&replicas)
        .await
        .unwrap();
    let address = replicas
        .items
        .iter()
        .find_map(|pod| pod.status.as_ref()?.pod_ip.clone())
        .unwrap();

    let mut config = Config::new(format!("https://{address}:8443").parse().unwrap());
    config.root_cert = Some(vec![
        CertificateDer::from_pem_slice(&ca.0).unwrap().to_vec(),
    ]);
    config.tls_server_name = Some("headstart.headstart.svc".into());
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "forged", "operation": "CREATE", "namespace": "unstored", "name": "forged",
            "kind": { "group": "apps", "version": "v1", "kind": "Deployment" }, "object": object,
        },
    });
    let request =
        axum::http::Request::post("/mutate?timeout=2s").header("Content-Type", "application/json");
    let request = request.body(review.to_string().into_bytes()).unwrap();
    Client::try_from(config)
        .unwrap()
        .request(request)
        .await
        .unwrap()
}
