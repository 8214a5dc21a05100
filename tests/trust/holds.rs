//! Patches of holds, as the real API server takes them, and what headstart's own account may change of a Deployment.

use std::collections::BTreeMap;

use headstart::domain::contract::{HELD_LABEL, HELD_SINCE, HELD_UNTIL, PREFETCH_LABEL};
use headstart::domain::hold::Held;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::certificates::served;
use crate::installation::{Installation, SHOP, deployment, until};
use crate::policy::headstarts_own_client;

/// In a namespace that holds, so that no label is needed on the Deployment itself.
async fn label_namespace(installation: &Installation, mode: &str) {
    let label = format!("{PREFETCH_LABEL}={mode}");
    let label = ["label", "--overwrite", "namespace", SHOP, &label];
    installation.cluster.kubectl(&label).await.unwrap();
}

#[tokio::test]
async fn the_api_server_takes_a_hold_with_and_without_labels_and_annotations() {
    let installation = Installation::new().await;
    let replica = installation.replica("replica", &[]);
    installation.register(replica.port).await;
    replica.ready().await;
    label_namespace(&installation, "hold").await;
    served(&installation, replica.port).await;
    let failed = installation.failed_open().await;
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let mut probe = deployment("held-probe", "app:1");
    probe.spec.as_mut().unwrap().replicas = Some(1);
    until("the API server to know the namespace's label", async || {
        let created = deployments.create(&PostParams::default(), &probe).await;
        let now = DeleteParams::default();
        deployments.delete("held-probe", &now).await.unwrap();
        Held::read(&created.unwrap()).is_some()
    })
    .await;
    let own = || BTreeMap::from([("example.com/a.b".to_owned(), "c".to_owned())]);
    let empty = BTreeMap::new;
    let maps = [None, Some(empty()), Some(own())];
    for (number, labels) in maps.iter().enumerate() {
        for (other, annotations) in maps.iter().enumerate() {
            let mut web = deployment(&format!("held-{number}-{other}"), "app:1");
            web.spec.as_mut().unwrap().replicas = Some(1);
            web.metadata.labels.clone_from(labels);
            web.metadata.annotations.clone_from(annotations);
            let created = deployments.create(&PostParams::default(), &web).await;
            let mut created = created.unwrap();
            let what = format!("{labels:?} {annotations:?}");
            assert!(
                Held::read(&created).is_some_and(|held| held.paused),
                "{what}"
            );
            let rest = |map: &mut Option<BTreeMap<String, String>>| {
                let map = map.get_or_insert_default();
                map.retain(|key, _| ![HELD_LABEL, HELD_SINCE, HELD_UNTIL].contains(&key.as_str()));
                map.clone()
            };
            assert_eq!(
                rest(&mut created.metadata.labels),
                labels.clone().unwrap_or_default(),
                "{what}"
            );
            let annotated = annotations.clone().unwrap_or_default();
            assert_eq!(rest(&mut created.metadata.annotations), annotated, "{what}");
        }
    }
    let failed = installation.failed_open().await - failed;
    assert_eq!(failed, 0.0, "{:?}", installation.call_errors());
    label_namespace(&installation, "enabled").await;
}

fn held() -> Value {
    json!({
        "metadata": {
            "labels": { HELD_LABEL: "true", "app.kubernetes.io/part-of": "shop" },
            "annotations": { HELD_SINCE: "2026-01-01T00:00:00Z", HELD_UNTIL: "2026-01-01T00:05:00Z", "example.com/a": "b" },
        },
        "spec": { "paused": true },
    })
}

#[tokio::test]
async fn headstart_can_resume_what_is_held_and_change_nothing_else() {
    let installation = Installation::new().await;
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let own: Api<Deployment> = Api::namespaced(headstarts_own_client(&installation).await, SHOP);
    let patch = async |patch: &Value| {
        let params = PatchParams::default();
        own.patch("web", &params, &Patch::Merge(patch)).await
    };
    let refused = |answer: kube::Result<Deployment>, part: &str, what: &str| match answer {
        Err(kube::Error::Api(status)) => {
            assert!(status.message.contains(part), "{what}: {}", status.message);
        }
        other => panic!("{what}: {other:?}"),
    };
    let web = deployment("web", "app:1");
    deployments
        .create(&PostParams::default(), &web)
        .await
        .unwrap();
    let pause = json!({ "spec": { "paused": true } });
    // A policy takes a moment to be in force.
    let try_out = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let refusal = "changes no Deployment but those that are marked as held";
    until("the policy to be in force", async || {
        let tried = own.patch("web", &try_out, &Patch::Merge(&pause)).await;
        tried.is_err_and(|error| error.to_string().contains(refusal))
    })
    .await;
    refused(
        patch(&pause).await,
        refusal,
        "a Deployment that is not held",
    );
    let mark = Patch::Merge(held());
    let params = PatchParams::default();
    deployments.patch("web", &params, &mark).await.unwrap();

    for (what, change) in [
        (
            "image",
            json!({ "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": "evil:1" }] } } } }),
        ),
        ("replicas", json!({ "spec": { "replicas": 5 } })),
        (
            "strategy",
            json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": null } } }),
        ),
        ("min ready", json!({ "spec": { "minReadySeconds": 60 } })),
        (
            "deadline",
            json!({ "spec": { "progressDeadlineSeconds": 1 } }),
        ),
        ("history", json!({ "spec": { "revisionHistoryLimit": 0 } })),
        (
            "a label",
            json!({ "metadata": { "labels": { "app": "other" } } }),
        ),
        (
            "a label gone",
            json!({ "metadata": { "labels": { "app.kubernetes.io/part-of": null } } }),
        ),
        (
            "an annotation",
            json!({ "metadata": { "annotations": { "example.com/a": "c" } } }),
        ),
        (
            "an annotation gone",
            json!({ "metadata": { "annotations": { "example.com/a": null } } }),
        ),
        (
            "a mark",
            json!({ "metadata": { "annotations": { HELD_UNTIL: "2126-01-01T00:00:00Z" } } }),
        ),
        (
            "finalizers",
            json!({ "metadata": { "finalizers": ["example.com/never"] } }),
        ),
        (
            "an owner",
            json!({ "metadata": { "ownerReferences": [
            { "apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b" },
        ] } }),
        ),
    ] {
        refused(patch(&change).await, "changes nothing else", what);
    }
    let resume = json!({
        "metadata": {
            "labels": { HELD_LABEL: null },
            "annotations": { HELD_SINCE: null, HELD_UNTIL: null },
        },
        "spec": { "paused": null },
    });
    let resumed = patch(&resume).await.unwrap();
    assert_eq!(Held::read(&resumed), None);
    assert_eq!(resumed.spec.unwrap().paused, None);
}
