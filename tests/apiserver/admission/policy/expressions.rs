//! The policies' expressions: that the API server finds no fault with them, and that they name every field there is.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use super::requests::Request;
use crate::admission::installation::{Installation, until};

/// The fields that the API server sets by itself, or lets no client change.
const SERVERS_OWN: [&str; 11] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
];

async fn policies(client: &Client) -> Vec<ValidatingAdmissionPolicy> {
    let all: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let own = ListParams::default().labels("app.kubernetes.io/name=headstart");
    all.list(&own).await.unwrap().items
}

#[tokio::test]
async fn policy_expressions_have_the_types_that_the_api_server_knows() {
    let installation = Installation::new().await;
    let client = &installation.client;
    until(
        "the controller manager to have checked the types",
        async || {
            policies(client).await.iter().all(|policy| {
                let status = policy.status.as_ref();
                status.is_some_and(|status| {
                    status.observed_generation == policy.metadata.generation
                        && status.type_checking.is_some()
                })
            })
        },
    )
    .await;
    let policies = policies(client).await;
    assert_eq!(policies.len(), 9);
    let mut warnings = Vec::new();
    for policy in &policies {
        let status = policy.status.as_ref().unwrap();
        let checked = status.type_checking.as_ref().unwrap();
        for warning in checked.expression_warnings.iter().flatten() {
            warnings.push(format!(
                "{} {}: {}",
                policy.name_any(),
                warning.field_ref,
                warning.warning
            ));
        }
    }
    assert!(warnings.is_empty(), "{}", warnings.join("\n"));
}

/// The fields that the server's OpenAPI gives a type.
async fn fields(client: &Client, group: &str, type_: &str) -> BTreeSet<String> {
    let api = Request::get(&format!("/openapi/v3/apis/{group}"));
    let api = api.send(client).await.unwrap();
    let schemas = api["components"]["schemas"].as_object().unwrap();
    let suffix = format!(".{type_}");
    let (_, schema) = schemas
        .iter()
        .find(|(name, _)| name.ends_with(&suffix))
        .unwrap();
    let properties = schema["properties"].as_object().unwrap();
    properties.keys().cloned().collect()
}

fn expressions(policies: &[ValidatingAdmissionPolicy], name: &str) -> String {
    let policy = policies.iter().find(|policy| policy.name_any() == name);
    let spec = serde_json::to_value(policy.unwrap().spec.as_ref().unwrap()).unwrap();
    let validations = spec["validations"].as_array().unwrap().iter();
    let texts = validations.filter_map(|validation| validation["expression"].as_str());
    texts.collect::<Vec<_>>().join("\n")
}

/// Asserts that the expressions compare each of the fields, but for those that may change.
fn compares(expressions: &str, old: &str, new: &str, fields: &BTreeSet<String>, free: &[&str]) {
    for field in fields
        .iter()
        .filter(|field| !free.contains(&field.as_str()))
    {
        let ways = [
            format!("{old}.?{field} == {new}.?{field}"),
            format!("{new}.?{field} == {old}.?{field}"),
            format!("{new}.{field} == {old}.{field}"),
        ];
        assert!(
            ways.iter().any(|way| expressions.contains(way)),
            "no expression compares {field}: a version of Kubernetes added it, or it was forgotten"
        );
    }
}

#[tokio::test]
async fn policy_names_every_field_of_a_webhook_that_this_kubernetes_has() {
    let installation = Installation::new().await;
    let client = &installation.client;
    let policies = policies(client).await;
    let admission = "admissionregistration.k8s.io/v1";
    for (kind, name) in [
        ("Mutating", "headstart-writes-only-cabundle-mutating"),
        ("Validating", "headstart-writes-only-cabundle-validating"),
    ] {
        let expressions = expressions(&policies, name);
        let of_webhook = fields(client, admission, &format!("v1.{kind}Webhook")).await;
        assert!(of_webhook.len() >= 11, "{of_webhook:?}");
        compares(
            &expressions,
            "o",
            "w",
            &of_webhook,
            &["name", "clientConfig"],
        );
        let of_client = fields(client, admission, "v1.WebhookClientConfig").await;
        compares(
            &expressions,
            "o.clientConfig",
            "w.clientConfig",
            &of_client,
            &["caBundle"],
        );
        let of_metadata = fields(client, admission, "v1.ObjectMeta").await;
        compares(
            &expressions,
            "oldObject.metadata",
            "object.metadata",
            &of_metadata,
            &SERVERS_OWN,
        );
        let of_configuration =
            fields(client, admission, &format!("v1.{kind}WebhookConfiguration")).await;
        let known = ["apiVersion", "kind", "metadata", "webhooks"].map(str::to_owned);
        assert_eq!(of_configuration, BTreeSet::from(known));
    }
}

#[tokio::test]
async fn policy_names_every_field_of_a_deployment_that_this_kubernetes_has() {
    let installation = Installation::new().await;
    let client = &installation.client;
    let expressions = expressions(&policies(client).await, "headstart-only-resumes");
    let of_spec = fields(client, "apps/v1", "v1.DeploymentSpec").await;
    compares(
        &expressions,
        "oldObject.spec",
        "object.spec",
        &of_spec,
        &["paused"],
    );
    let of_metadata = fields(client, "apps/v1", "v1.ObjectMeta").await;
    let free = [&SERVERS_OWN[..], &["labels", "annotations"]].concat();
    compares(
        &expressions,
        "oldObject.metadata",
        "object.metadata",
        &of_metadata,
        &free,
    );
}

/// A webhook configuration is read, so that the API's own field names are those that are compared.
#[tokio::test]
async fn policy_of_the_webhooks_lets_a_configuration_be_applied_by_others() {
    let installation = Installation::new().await;
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/headstart";
    let mut stored: Value = Request::get(path).send(&installation.client).await.unwrap();
    stored["webhooks"][0]["failurePolicy"] = "Fail".into();
    let put = Request::put(&format!("{path}?dryRun=All"), stored);
    put.send(&installation.client).await.unwrap();
}
