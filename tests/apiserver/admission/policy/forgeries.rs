//! Labels of headstart's pods on pods of others: a tenant's, a node's, any agent's that may label pods.

use serde_json::json;

use super::requests::{Refusal, Request};
use super::{bounded, made, pods, refused, web};
use crate::admission::installation::{Installation, SHOP, until};

const POLICY: &str = "headstart-pods-are-headstarts";

#[tokio::test]
async fn policy_reserves_the_labels_of_prefetch_pods() {
    let installation = Installation::new().await;
    let everyone = &installation.client;
    let own = bounded(&installation).await;
    let path = format!("/api/v1/namespaces/{SHOP}/pods");
    let dry = format!("{path}?dryRun=All");
    let only = "only headstart creates pods with the label";
    until(POLICY, async || {
        let tried = Request::post(&dry, pods::forged("forged"))
            .send(everyone)
            .await;
        tried.is_err_and(|error| error.to_string().contains(POLICY))
    })
    .await;
    let mut gated = pods::forged("gated");
    gated["spec"]["nodeName"] = json!(null);
    gated["spec"]["schedulingGates"] = json!([{ "name": "example.com/never" }]);
    let create = |what: &str, pod| Refusal::new(what, POLICY, only, Request::post(&dry, pod));
    let created = refused(
        everyone,
        vec![
            create("a tenant's pod", pods::forged("forged")),
            create("a pod with a gate, which takes a node's place", gated),
        ],
    )
    .await;
    assert_eq!(created, 2);

    // headstart's own pod, and what others may do with it.
    let web = web(&installation).await;
    let pod = made(&web).swap_remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    Request::post(&path, pod).send(&own).await.unwrap();
    let tenant = json!({ "metadata": { "name": "tenant" }, "spec": { "nodeName": "fake-0",
        "containers": [{ "name": "a", "image": "a:1" }] } });
    Request::post(&path, tenant).send(everyone).await.unwrap();
    let writes = "only headstart writes the labels of its pods";
    let label = |what: &str, name: &str, subresource: &str, labels| {
        let path = format!("{path}/{name}{subresource}?dryRun=All");
        let patch = json!({ "metadata": { "labels": labels } });
        Refusal::new(what, POLICY, writes, Request::merge(&path, patch))
    };
    let ours = json!({ "headstart.dev/deployment": "web" });
    let gone = json!({ "headstart.dev/deployment": null });
    refused(
        everyone,
        vec![
            label("a label that is added", "tenant", "", ours.clone()),
            label(
                "a label that is added by the status",
                "tenant",
                "/status",
                ours,
            ),
            label("a label that goes", &name, "", gone.clone()),
            label("a label that goes by the status", &name, "/status", gone),
            label(
                "another Deployment",
                &name,
                "",
                json!({ "headstart.dev/deployment": "other" }),
            ),
            label(
                "another revision",
                &name,
                "",
                json!({ "headstart.dev/revision": "other" }),
            ),
            label(
                "another manager",
                &name,
                "",
                json!({ "app.kubernetes.io/managed-by": "Helm" }),
            ),
        ],
    )
    .await;
    // A CNI's annotation, another's label, the kubelet's status.
    let patch =
        |subresource: &str, patch| Request::merge(&format!("{path}/{name}{subresource}"), patch);
    for request in [
        patch(
            "",
            json!({ "metadata": { "annotations": { "cni.example.com/address": "10.0.0.1" } } }),
        ),
        patch(
            "",
            json!({ "metadata": { "labels": { "example.com/team": "a" } } }),
        ),
        patch("/status", json!({ "status": { "message": "m" } })),
    ] {
        request.send(everyone).await.unwrap();
    }
    for name in [name.as_str(), "tenant"] {
        let now = json!({ "gracePeriodSeconds": 0 });
        let delete = Request::delete(&format!("{path}/{name}"), now);
        delete.send(everyone).await.unwrap();
    }
}
