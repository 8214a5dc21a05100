//! Secrets, Leases, events and Deployments.

use headstart_core::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::requests::{Refusal, Request};
use crate::admission::installation::{Installation, SHOP, deployment};

const SECRET: &str = "headstart-writes-only-its-secret";
const LEASE: &str = "headstart-writes-only-its-lease";
const EVENTS: &str = "headstart-writes-only-its-events";
const RESUMES: &str = "headstart-only-resumes";

fn secret(name: &str, type_: &str) -> Value {
    json!({ "metadata": { "name": name }, "type": type_, "data": { "tls.crt": "", "tls.key": "" } })
}

fn lease(name: &str, seconds: i64) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "holderIdentity": "a", "leaseDurationSeconds": seconds } })
}

fn event(controller: &str, kind: &str) -> Value {
    json!({
        "metadata": { "name": "web.1" }, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal",
        "reason": "Prefetched", "action": "Prefetch", "note": "n",
        "reportingController": controller, "reportingInstance": "a",
        "regarding": { "apiVersion": "apps/v1", "kind": kind, "namespace": SHOP, "name": "web" },
    })
}

/// The Deployment `held`, which waits, beside `web`, which does not.
pub(super) async fn make_held(installation: &Installation) {
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let held = deployment("held", "app:1");
    deployments
        .create(&PostParams::default(), &held)
        .await
        .unwrap();
    let marks = json!({
        "metadata": {
            "labels": { HELD_LABEL: "true", "app.kubernetes.io/part-of": "shop" },
            "annotations": { HELD_SINCE: "2026-01-01T00:00:00Z", HELD_UNTIL: "2026-01-01T00:05:00Z",
                "headstart.dev/held-by-a-later-version": "a", "example.com/a": "b" },
        },
        "spec": { "paused": true },
    });
    let params = PatchParams::default();
    deployments
        .patch("held", &params, &Patch::Merge(marks))
        .await
        .unwrap();
}

pub(super) fn forbidden(own: &str) -> Vec<Refusal> {
    let mut all = of_its_own(own);
    all.extend(events());
    all.extend(deployments());
    all
}

fn of_its_own(own: &str) -> Vec<Refusal> {
    let secrets = |namespace: &str| format!("/api/v1/namespaces/{namespace}/secrets?dryRun=All");
    let leases = |namespace: &str| {
        format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases?dryRun=All")
    };
    let no_secret = "writes no Secret but headstart-ca";
    let no_lease = "writes no Lease but headstart";
    let mut token = secret("headstart-ca", "kubernetes.io/service-account-token");
    token["metadata"]["annotations"] = json!({ "kubernetes.io/service-account.name": "default" });
    let mut annotated = secret("headstart-ca", "kubernetes.io/tls");
    annotated["metadata"]["annotations"] =
        json!({ "kubernetes.io/service-account.name": "default" });
    let mut kept = secret("headstart-ca", "kubernetes.io/tls");
    kept["metadata"]["finalizers"] = json!(["example.com/never"]);
    let mut stays = lease("headstart", 6);
    stays["metadata"]["finalizers"] = json!(["example.com/never"]);
    let post =
        |what: &str, path: String, body: Value| (what.to_owned(), Request::post(&path, body));
    let of_secrets = [
        post(
            "a Secret by another name",
            secrets(own),
            secret("other", "kubernetes.io/tls"),
        ),
        post(
            "an Opaque Secret",
            secrets(own),
            secret("headstart-ca", "Opaque"),
        ),
        post("the token of a ServiceAccount", secrets(own), token),
        post("the annotation of a token", secrets(own), annotated),
        post("a Secret that stays", secrets(own), kept),
        post(
            "the CA elsewhere",
            secrets(SHOP),
            secret("headstart-ca", "kubernetes.io/tls"),
        ),
    ];
    let of_leases = [
        post("a Lease by another name", leases(own), lease("other", 6)),
        post(
            "a Lease of 68 years",
            leases(own),
            lease("headstart", 2_147_483_647),
        ),
        post("a Lease of 61 seconds", leases(own), lease("headstart", 61)),
        post("a Lease that stays", leases(own), stays),
        post(
            "the Lease of a node",
            leases("kube-node-lease"),
            lease("n1", 6),
        ),
        post(
            "the scheduler's Lease",
            leases("kube-system"),
            lease("kube-scheduler", 6),
        ),
    ];
    let secrets = of_secrets
        .into_iter()
        .map(|(what, request)| Refusal::new(what, SECRET, no_secret, request));
    let leases = of_leases
        .into_iter()
        .map(|(what, request)| Refusal::new(what, LEASE, no_lease, request));
    secrets.chain(leases).collect()
}

fn events() -> Vec<Refusal> {
    let message = "writes no events but its own, about Deployments";
    let path = format!("/apis/events.k8s.io/v1/namespaces/{SHOP}/events?dryRun=All");
    let mut related = event("headstart.dev/headstart", "Deployment");
    related["related"] = json!({ "kind": "Secret", "namespace": SHOP, "name": "s" });
    let core = json!({
        "metadata": { "name": "web.1" }, "reason": "Killing", "message": "m", "type": "Normal",
        "source": { "component": "kubelet" }, "reportingComponent": "kubelet",
        "involvedObject": { "kind": "Pod", "namespace": SHOP, "name": "web" },
    });
    let of_core = format!("/api/v1/namespaces/{SHOP}/events?dryRun=All");
    let refusal = |what: &str, path: &str, body| {
        Refusal::new(what, EVENTS, message, Request::post(path, body))
    };
    vec![
        refusal(
            "an event of another controller",
            &path,
            event("kubelet", "Deployment"),
        ),
        refusal(
            "an event about a pod",
            &path,
            event("headstart.dev/headstart", "Pod"),
        ),
        refusal(
            "an event about a node",
            &path,
            event("headstart.dev/headstart", "Node"),
        ),
        refusal("an event with a second object", &path, related),
        refusal("an event of the older API", &of_core, core),
    ]
}

fn deployments() -> Vec<Refusal> {
    let group = format!("/apis/apps/v1/namespaces/{SHOP}/deployments");
    let not_held = "changes no Deployment but those that are marked as held";
    let nothing_else = "changes nothing else";
    let patch = |what: &str, name: &str, message, patch| {
        let path = format!("{group}/{name}?dryRun=All");
        Refusal::new(what, RESUMES, message, Request::merge(&path, patch))
    };
    let change = |what: &str, change| {
        patch(
            &format!("a held Deployment: {what}"),
            "held",
            nothing_else,
            change,
        )
    };
    let image = json!([{ "name": "app", "image": "evil:1" }]);
    let owner = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b" }]);
    let create = serde_json::to_value(deployment("evil", "evil:1")).unwrap();
    vec![
        Refusal::new(
            "a new Deployment",
            RESUMES,
            not_held,
            Request::post(&format!("{group}?dryRun=All"), create),
        ),
        patch(
            "a Deployment that is not held: pause",
            "web",
            not_held,
            json!({ "spec": { "paused": true } }),
        ),
        patch(
            "a Deployment that is not held: mark",
            "web",
            not_held,
            json!({ "metadata": { "labels": { HELD_LABEL: "true" } } }),
        ),
        patch(
            "a Deployment that is not held: image",
            "web",
            not_held,
            json!({ "spec": { "template": { "spec": { "containers": image } } } }),
        ),
        change(
            "image",
            json!({ "spec": { "template": { "spec": { "containers": image } } } }),
        ),
        change("replicas", json!({ "spec": { "replicas": 5 } })),
        change(
            "strategy",
            json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": null } } }),
        ),
        change(
            "minReadySeconds",
            json!({ "spec": { "minReadySeconds": 60 } }),
        ),
        change(
            "progressDeadlineSeconds",
            json!({ "spec": { "progressDeadlineSeconds": 1 } }),
        ),
        change(
            "revisionHistoryLimit",
            json!({ "spec": { "revisionHistoryLimit": 0 } }),
        ),
        change(
            "a label",
            json!({ "metadata": { "labels": { "app": "other" } } }),
        ),
        change(
            "a label gone",
            json!({ "metadata": { "labels": { "app.kubernetes.io/part-of": null } } }),
        ),
        change(
            "an annotation",
            json!({ "metadata": { "annotations": { "example.com/a": "c" } } }),
        ),
        change(
            "an annotation gone",
            json!({ "metadata": { "annotations": { "example.com/a": null } } }),
        ),
        change(
            "a later end",
            json!({ "metadata": { "annotations": { HELD_UNTIL: "2126-01-01T00:00:00Z" } } }),
        ),
        change(
            "one mark more",
            json!({ "metadata": { "annotations": { "headstart.dev/held-for": "a" } } }),
        ),
        change(
            "finalizers",
            json!({ "metadata": { "finalizers": ["example.com/never"] } }),
        ),
        change(
            "an owner",
            json!({ "metadata": { "ownerReferences": owner } }),
        ),
    ]
}

/// The end of the hold of the Deployment `held`.
pub(super) fn resume(query: &str) -> Request {
    let held = format!("/apis/apps/v1/namespaces/{SHOP}/deployments/held{query}");
    let resume = json!({
        "metadata": {
            "labels": { HELD_LABEL: null },
            "annotations": { HELD_SINCE: null, HELD_UNTIL: null, "headstart.dev/held-by-a-later-version": null },
        },
        "spec": { "paused": null },
    });
    Request::merge(&held, resume)
}

/// Returns the writes that the account of the CronJob must not do. RBAC lets it create nothing.
pub(super) fn forbidden_to_release() -> Vec<Refusal> {
    let all = deployments().into_iter();
    all.filter(|refusal| !refusal.request.path().contains("deployments?"))
        .collect()
}

/// Returns the writes that headstart does.
pub(super) fn allowed(own: &str) -> Vec<Request> {
    let secrets = format!("/api/v1/namespaces/{own}/secrets?dryRun=All");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{own}/leases?dryRun=All");
    let events = format!("/apis/events.k8s.io/v1/namespaces/{SHOP}/events?dryRun=All");
    vec![
        Request::post(&secrets, secret("headstart-ca", "kubernetes.io/tls")),
        Request::post(&leases, lease("headstart", 6)),
        Request::post(&leases, lease("headstart", 60)),
        Request::post(&events, event("headstart.dev/headstart", "Deployment")),
        resume(""),
    ]
}
