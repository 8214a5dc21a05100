//! Images of every kind arrive, by both pull methods, in a namespace that enforces the `restricted` level.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::Image;

use crate::cluster::{Cluster, EVERY_NODE, alone, deployment, shared, until};

/// The method that headstart chooses by itself on these nodes.
const VOLUMES: &str = "image-volume";
/// The longest time until a missing image is reported. The kubelet's first back-off alone takes 10 s.
const SECONDS: Duration = Duration::from_secs(10);

#[tokio::test]
async fn every_kind_of_image_arrives_by_image_volumes() {
    let Some(turn) = shared().await else { return };
    every_kind_of_image_arrives(&turn, VOLUMES).await;
}

/// Alone, because it is about seconds.
#[tokio::test]
async fn a_missing_image_is_reported_by_image_volumes() {
    let Some(turn) = alone().await else { return };
    a_missing_image_is_reported(&turn, VOLUMES).await;
}

pub(crate) async fn every_kind_of_image_arrives(cluster: &Cluster, method: &str) {
    cluster.namespace(method, Some("enabled")).await;
    cluster
        .kubectl(&[
            "label",
            "namespace",
            method,
            "pod-security.kubernetes.io/enforce=restricted",
        ])
        .await;
    cluster.right_pull_secret(method).await;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": method, "name": "builder" },
        "imagePullSecrets": [{ "name": "registry" }],
    });
    cluster.apply(&account).await;

    let mut expected = Vec::new();
    for (kind, image) in kinds(cluster, method) {
        let image = cluster
            .nodes
            .registry()
            .push(&format!("{method}/{kind}:1"), &image)
            .await
            .unwrap();
        apply(
            cluster,
            method,
            kind,
            json!({ "containers": [container("app", &image)] }),
        )
        .await;
        expected.push((kind, image));
    }
    for (kind, credentials) in [
        (
            "by-secret",
            json!({ "imagePullSecrets": [{ "name": "registry" }] }),
        ),
        ("by-account", json!({ "serviceAccountName": "builder" })),
    ] {
        let image = cluster.push_private(&format!("{method}/{kind}:1")).await;
        let mut spec = json!({ "containers": [container("app", &image)] });
        json_patch::merge(&mut spec, &credentials);
        apply(cluster, method, kind, spec).await;
        expected.push((kind, image));
    }
    for (kind, image) in &expected {
        cluster.until_prefetched(method, kind, 1).await;
        assert_eq!(cluster.nodes_with(image).await, EVERY_NODE, "{kind}");
    }
    for pod in cluster.prefetch_pods(method, "by-account").await {
        let spec = pod.spec.unwrap();
        let volumes = spec.volumes.unwrap_or_default();
        let has_images = volumes.iter().any(|volume| volume.image.is_some());
        assert_eq!(has_images, method == VOLUMES);
        assert_eq!(spec.service_account_name.as_deref(), Some("default"));
        assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "registry");
    }
    an_image_for_another_platform_is_reported(cluster, method).await;
}

/// Images that a prefetch might stumble over.
fn kinds(cluster: &Cluster, method: &str) -> [(&'static str, Image); 5] {
    let named = |kind: &str| cluster.image(&format!("{method}/{kind}"));
    [
        // One file, and nothing to run.
        ("nothing-to-run", Image::default().file("/data", method)),
        ("numeric-user", named("numeric-user").user("65534")),
        // No /etc/passwd tells who that is.
        ("named-user", named("named-user").user("shop")),
        ("root", named("root").user("0")),
        ("no-entrypoint", named("no-entrypoint").entrypoint(&[])),
    ]
}

async fn an_image_for_another_platform_is_reported(cluster: &Cluster, method: &str) {
    let other = if Image::own_architecture() == "amd64" {
        "arm64"
    } else {
        "amd64"
    };
    let name = format!("{method}/other-platform:1");
    let image = cluster.image(&name).only_for(other);
    let image = cluster.nodes.registry().push(&name, &image).await.unwrap();
    apply(
        cluster,
        method,
        "other-platform",
        json!({ "containers": [container("app", &image)] }),
    )
    .await;
    until("the report of the wrong platform", async || {
        !cluster
            .events(method, "other-platform", "PrefetchFailed")
            .await
            .is_empty()
    })
    .await;
    let notes = cluster
        .events(method, "other-platform", "PrefetchFailed")
        .await;
    assert!(
        notes[0].contains(&image) && notes[0].contains("WrongPlatform"),
        "{notes:?}"
    );
    cluster
        .kubectl(&["delete", "deployment", "-n", method, "other-platform"])
        .await;
}

/// The failure is reported soon, and keeps no other image from arriving.
pub(crate) async fn a_missing_image_is_reported(cluster: &Cluster, method: &str) {
    let namespace = &format!("missing-{method}");
    cluster.namespace(namespace, Some("enabled")).await;
    let first = cluster.push(&format!("{namespace}/first:1")).await;
    let last = cluster.push(&format!("{namespace}/last:1")).await;
    let missing = format!(
        "{}/{namespace}/missing:1",
        cluster.nodes.registry().address()
    );
    let containers =
        [("a", &first), ("b", &missing), ("c", &last)].map(|(name, image)| container(name, image));
    let started = Instant::now();
    apply(
        cluster,
        namespace,
        "one-missing",
        json!({ "containers": containers }),
    )
    .await;
    until("the report of the missing image", async || {
        !cluster
            .events(namespace, "one-missing", "PrefetchFailed")
            .await
            .is_empty()
    })
    .await;
    let (took, notes) = (
        started.elapsed(),
        cluster
            .events(namespace, "one-missing", "PrefetchFailed")
            .await,
    );
    eprintln!("{method}: the missing image was reported after {took:?}");
    assert!(took < SECONDS, "{took:?}");
    assert!(
        notes[0].contains(&missing) && notes[0].contains("NotFound"),
        "{notes:?}"
    );
    until("the other images to arrive", async || {
        cluster.nodes_with(&first).await == EVERY_NODE
            && cluster.nodes_with(&last).await == EVERY_NODE
    })
    .await;
    cluster
        .kubectl(&["delete", "deployment", "-n", namespace, "one-missing"])
        .await;
}

/// No replicas: what arrives was prefetched.
async fn apply(cluster: &Cluster, namespace: &str, name: &str, mut spec: Value) {
    spec["securityContext"] = json!({ "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" } });
    let mut object = deployment(namespace, name, spec);
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
}

fn container(name: &str, image: &str) -> Value {
    json!({
        "name": name, "image": image,
        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
    })
}
