//! Patches of holds, as the real API server takes them, and what headstart's own account may change of a Deployment.

use std::collections::BTreeMap;

use headstart_core::api::hold_mark::HoldMark;
use headstart_core::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL, PREFETCH_LABEL};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::admission::certificates::served;
use crate::admission::installation::{Installation, SHOP, deployment, until};
use crate::admission::policy::headstarts_own_client;

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
    installation.call_at(replica.port).await;
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
        HoldMark::read(&created.unwrap()).is_some()
    })
    .await;
    let own = || BTreeMap::from([("example.com/a.b".to_owned(), "c".to_owned())]);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let shown = deployments.create(&dry_run, &probe).await.unwrap();
    assert!(HoldMark::read(&shown).is_some_and(|held| held.paused));
    assert_eq!(deployments.get_opt("held-probe").await.unwrap(), None);
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
                HoldMark::read(&created).is_some_and(|held| held.paused),
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

#[tokio::test]
async fn a_rollout_with_marks_of_a_time_that_cannot_be_is_resumed_at_once() {
    let installation = Installation::new().await;
    let replica = installation.replica("replica", &[]);
    installation.call_at(replica.port).await;
    replica.ready().await;
    served(&installation, replica.port).await;
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let events: Api<Event> = Api::namespaced(installation.client.clone(), SHOP);
    let (far, later) = (Some("2099-01-01T00:00:00Z"), Some("2099-01-01T00:05:00Z"));
    for mode in ["enabled", "hold"] {
        label_namespace(&installation, mode).await;
        for (number, (since, until_then)) in [(far, later), (None, far), (Some("soon"), later)]
            .into_iter()
            .enumerate()
        {
            // Without replicas, so that it is not held anew.
            let name = format!("forged-{mode}-{number}");
            let mut forged = deployment(&name, "app:1");
            forged.spec.as_mut().unwrap().paused = Some(true);
            let marks = [(HELD_SINCE, since), (HELD_UNTIL, until_then)];
            let marks = marks
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
            forged.metadata.annotations = Some(marks.collect());
            forged.metadata.labels = Some([(HELD_LABEL.to_owned(), "true".to_owned())].into());
            deployments
                .create(&PostParams::default(), &forged)
                .await
                .unwrap();
            until(&format!("{name} to go on"), async || {
                let stored = deployments.get(&name).await.unwrap();
                HoldMark::read(&stored).is_none() && stored.spec.unwrap().paused.is_none()
            })
            .await;
            let fields = format!("involvedObject.name={name},reason=RolloutResumed");
            until(&format!("the event of {name}"), async || {
                let found = events
                    .list(&ListParams::default().fields(&fields))
                    .await
                    .unwrap();
                found.iter().any(|event| {
                    event
                        .message
                        .as_deref()
                        .is_some_and(|note| note.contains("times that headstart does not set"))
                })
            })
            .await;
        }
    }
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
    assert_eq!(HoldMark::read(&resumed), None);
    assert_eq!(resumed.spec.unwrap().paused, None);
}
