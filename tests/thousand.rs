//! One Deployment on a thousand nodes. Needs no root: the nodes only pretend to pull.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::time::Duration;

use headstart::domain::contract::{MANAGED_BY_LABEL, MANAGER};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use testbed::control_plane::{AuditEvent, Options};
use testbed::headstart::Local;
use testbed::process::Wait;
use testbed::{ControlPlane, FakeNodes};

const NODES: usize = 1000;
const LIMIT: Duration = Duration::from_secs(300);
const OWN_USER: &str = "system:serviceaccount:headstart:headstart";

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = Wait::new(what, LIMIT);
    while !condition().await {
        wait.pause().await.unwrap();
    }
}

/// What headstart itself has asked of pods.
fn asked(cluster: &ControlPlane, verb: &str) -> Vec<AuditEvent> {
    let mut events = cluster.audit_events().unwrap();
    events.retain(|event| event.user == OWN_USER && event.resource == "pods" && event.verb == verb);
    events
}

#[tokio::test]
async fn a_thousand_nodes_get_one_pod_each_and_all_are_cleaned_up() {
    let options = Options {
        audit: true,
        ..Options::default()
    };
    let cluster = ControlPlane::start(options).await.unwrap();
    let fake = FakeNodes {
        count: NODES,
        ..FakeNodes::default()
    };
    cluster.add_fake_nodes(fake, |_, _| {}).await.unwrap();
    let _headstart = Local::start(&cluster, &["--retain=3s"]).await.unwrap();
    cluster
        .kubectl(&["create", "namespace", "shop"])
        .await
        .unwrap();
    cluster
        .kubectl(&[
            "label",
            "namespace",
            "shop",
            "headstart.dev/prefetch=enabled",
        ])
        .await
        .unwrap();

    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "namespace": "shop", "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "app", "image": "registry.example/web:1" }] },
            },
        },
    });
    cluster
        .kubectl_with_input(&["apply", "-f", "-"], &object.to_string())
        .await
        .unwrap();
    let client = cluster.client().unwrap();
    let events: Api<Event> = Api::namespaced(client.clone(), "shop");
    let prefetched = ListParams::default().fields("involvedObject.name=web,reason=Prefetched");
    until("the prefetch of every node", async || {
        !events.list(&prefetched).await.unwrap().items.is_empty()
    })
    .await;
    let note = events.list(&prefetched).await.unwrap().items[0]
        .message
        .clone()
        .unwrap_or_default();
    assert!(note.contains("on 1000 nodes"), "{note}");

    let created = asked(&cluster, "create");
    let names: BTreeSet<_> = created.iter().map(|event| &event.name).collect();
    let codes: BTreeSet<_> = created.iter().map(|event| event.code).collect();
    assert_eq!(
        (created.len(), names.len()),
        (NODES, NODES),
        "one create per node: {codes:?}"
    );
    assert_eq!(codes, BTreeSet::from([201]));

    let pods: Api<Pod> = Api::all(client);
    let ours = ListParams::default()
        .labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"))
        .limit(1);
    until("all prefetch pods to be gone", async || {
        pods.list(&ours).await.unwrap().items.is_empty()
    })
    .await;
    assert_eq!(asked(&cluster, "create").len(), NODES, "none is made again");
    let deletes = asked(&cluster, "delete").len() + asked(&cluster, "deletecollection").len();
    assert!(
        deletes <= NODES,
        "no more than one delete per pod: {deletes}"
    );
}
