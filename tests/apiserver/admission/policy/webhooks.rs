//! The own webhook configurations: caBundle and nothing else. Who may change the rest sees and rewrites every object.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::requests::{Refusal, Request};
use crate::admission::installation::Installation;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const KINDS: [(&str, &str, &str); 2] = [
    (
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        "headstart-writes-only-cabundle-mutating",
    ),
    (
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        "headstart-writes-only-cabundle-validating",
    ),
];
const WEBHOOK: &str = "changes nothing of a webhook but its caBundle";
const METADATA: &str = "changes no metadata of a webhook configuration";
const LIFE: &str = "creates and deletes no webhook configuration";

fn path(resource: &str) -> String {
    format!("{GROUP}/{resource}/headstart?dryRun=All")
}

/// The first that is tried, until the policy is in force.
pub(super) fn first_refusal() -> Refusal {
    forbidden().swap_remove(0)
}

/// Changes of the first webhook, and of the configuration.
fn changes() -> Vec<(&'static str, Value, &'static str)> {
    let set = |field: &str, value: Value| {
        let path = format!("/webhooks/0/{field}");
        json!([{ "op": "add", "path": path, "value": value }])
    };
    let everything = json!([{ "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"] }]);
    let service = json!({ "name": "evil", "namespace": "shop", "path": "/", "port": 443 });
    let other = json!({ "name": "other.headstart.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": { "url": "https://evil.example/" } });
    vec![
        (
            "failurePolicy",
            set("failurePolicy", json!("Fail")),
            WEBHOOK,
        ),
        ("rules", set("rules", everything), WEBHOOK),
        ("a rule", set("rules/0/resources", json!(["*"])), WEBHOOK),
        (
            "url",
            set("clientConfig", json!({ "url": "https://evil.example/" })),
            WEBHOOK,
        ),
        (
            "service",
            set("clientConfig", json!({ "service": service })),
            WEBHOOK,
        ),
        ("matchPolicy", set("matchPolicy", json!("Exact")), WEBHOOK),
        (
            "namespaceSelector",
            set("namespaceSelector", json!({})),
            WEBHOOK,
        ),
        (
            "objectSelector",
            set("objectSelector", json!({ "matchLabels": { "a": "b" } })),
            WEBHOOK,
        ),
        (
            "sideEffects",
            set("sideEffects", json!("NoneOnDryRun")),
            WEBHOOK,
        ),
        ("timeoutSeconds", set("timeoutSeconds", json!(29)), WEBHOOK),
        (
            "admissionReviewVersions",
            set("admissionReviewVersions", json!(["v1", "v1beta1"])),
            WEBHOOK,
        ),
        (
            "matchConditions",
            set("matchConditions", json!([])),
            WEBHOOK,
        ),
        ("name", set("name", json!("other.headstart.dev")), WEBHOOK),
        (
            "one more webhook",
            json!([{ "op": "add", "path": "/webhooks/-", "value": other }]),
            WEBHOOK,
        ),
        (
            "one webhook less",
            json!([{ "op": "remove", "path": "/webhooks/0" }]),
            WEBHOOK,
        ),
        (
            "labels",
            json!([{ "op": "add", "path": "/metadata/labels", "value": {} }]),
            METADATA,
        ),
        (
            "annotations",
            json!([{ "op": "add", "path": "/metadata/annotations", "value": { "a": "b" } }]),
            METADATA,
        ),
        (
            "finalizers",
            json!([{ "op": "add", "path": "/metadata/finalizers", "value": ["example.com/never"] }]),
            METADATA,
        ),
        (
            "owners",
            json!([{ "op": "add", "path": "/metadata/ownerReferences", "value": [
            { "apiVersion": "v1", "kind": "Namespace", "name": "shop", "uid": "u" }] }]),
            METADATA,
        ),
    ]
}

/// Requests about configurations by the name `headstart`, which every test has.
pub(super) fn forbidden() -> Vec<Refusal> {
    let mut all = Vec::new();
    for (resource, kind, policy) in KINDS {
        for (what, operations, message) in changes() {
            if (what, kind) == ("sideEffects", "MutatingWebhookConfiguration") {
                continue;
            }
            let request = Request::patch(&path(resource), operations);
            all.push(Refusal::new(
                format!("{kind}: {what}"),
                policy,
                message,
                request,
            ));
        }
        let webhook = json!({ "name": "evil.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": { "url": "https://evil.example/" } });
        let evil = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": { "name": "evil" }, "webhooks": [webhook] });
        let create = Request::post(&format!("{GROUP}/{resource}?dryRun=All"), evil);
        all.push(Refusal::new(
            format!("{kind}: create"),
            policy,
            LIFE,
            create,
        ));
        let delete = Request::try_delete(&path(resource));
        all.push(Refusal::new(
            format!("{kind}: delete"),
            policy,
            LIFE,
            delete,
        ));
        let all_of_them = format!("{GROUP}/{resource}?dryRun=All");
        let delete = Request::try_delete(&all_of_them);
        all.push(Refusal::new(
            format!("{kind}: delete all"),
            policy,
            LIFE,
            delete,
        ));
    }
    let reinvoked =
        json!([{ "op": "add", "path": "/webhooks/0/reinvocationPolicy", "value": "IfNeeded" }]);
    let (resource, _, policy) = KINDS[0];
    let request = Request::patch(&path(resource), reinvoked);
    all.push(Refusal::new("reinvocationPolicy", policy, WEBHOOK, request));
    let (resource, _, policy) = KINDS[0];
    let side_effects = json!([{ "op": "add", "path": "/webhooks/0/sideEffects", "value": "None" }]);
    let request = Request::patch(&path(resource), side_effects);
    all.push(Refusal::new("sideEffects", policy, WEBHOOK, request));
    all
}

/// The CA into each webhook, as headstart writes it.
pub(super) async fn allowed(installation: &Installation) -> Vec<Request> {
    let mut all = Vec::new();
    for (resource, _, _) in KINDS {
        let read = Request::get(&format!("{GROUP}/{resource}/headstart"));
        let stored = read.send(&installation.client).await.unwrap();
        let count = stored["webhooks"].as_array().unwrap().len();
        let set = |index| {
            let path = format!("/webhooks/{index}/clientConfig/caBundle");
            json!({ "op": "add", "path": path, "value": ByteString(installation.callers.ca.cert().as_bytes().to_vec()) })
        };
        let guard = json!({ "op": "test", "path": "/metadata/resourceVersion", "value": stored["metadata"]["resourceVersion"] });
        let operations: Vec<_> = std::iter::once(guard).chain((0..count).map(set)).collect();
        all.push(Request::patch(&path(resource), json!(operations)));
    }
    all
}
