//! Tests with the real API server: when it asks headstart, and how it takes the answers.

use std::time::Duration;

use headstart::testing::Ca;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::admission::callers::client_of;
use crate::admission::certificates::{called, served};
use crate::admission::client::{self, Tls};
use crate::admission::installation::{Installation, SHOP, deployment, until};
use crate::admission::replica::Replica;

const REVIEWS: &str = "headstart_admission_reviews_total";

async fn asked(replica: &Replica, write: impl Future<Output = kube::Result<Deployment>>) -> f64 {
    let before = replica.metric(REVIEWS).await;
    write.await.unwrap();
    replica.metric(REVIEWS).await - before
}

/// Waits until its controller has written the status for the last change. The API server tries a patch again that meets
/// another write, and it is reviewed again.
async fn settled(deployments: &Api<Deployment>) {
    until("the Deployment's controller", async || {
        let web = deployments.get("web").await.unwrap();
        let status = web.status.unwrap_or_default();
        status.observed_generation == web.metadata.generation
            && status
                .conditions
                .is_some_and(|conditions| !conditions.is_empty())
    })
    .await;
}

#[tokio::test]
async fn the_api_server_asks_when_it_should_and_understands_the_answers() {
    let installation = Installation::new().await;
    let replica = installation.replica("replica", &[]);
    installation.call_at(replica.port).await;
    replica.ready().await;
    served(&installation, replica.port).await;
    let failed = installation.failed_open().await;
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let params = PatchParams::default();
    let merge = async |patch: serde_json::Value| {
        let patch = Patch::Strategic(patch);
        settled(&deployments).await;
        deployments.patch("web", &params, &patch).await
    };

    let create = PostParams::default();
    let mut web = deployment("web", "app:1");
    // Its controller then writes nothing but the observed generation, which can be waited for.
    web.spec.as_mut().unwrap().paused = Some(true);
    assert_eq!(
        asked(&replica, deployments.create(&create, &web)).await,
        1.0
    );
    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}});
    assert_eq!(asked(&replica, merge(image("app:2"))).await, 1.0);
    assert_eq!(
        asked(&replica, merge(image("app:2"))).await,
        0.0,
        "nothing changed"
    );
    assert_eq!(
        asked(&replica, merge(json!({"spec": {"replicas": 1}}))).await,
        0.0
    );
    let annotate = |key: &str, value: &str| json!({"metadata": {"annotations": {key: value}}});
    assert_eq!(
        asked(&replica, merge(annotate("example.com/a", "b"))).await,
        0.0
    );
    assert_eq!(
        asked(&replica, merge(annotate("headstart.dev/max-nodes", "30%"))).await,
        1.0
    );
    assert_eq!(
        asked(&replica, merge(annotate("example.com/a", "c"))).await,
        0.0,
        "headstart's annotation is there, and the same"
    );
    let dry = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let patch = Patch::Strategic(image("app:3"));
    assert_eq!(
        asked(&replica, deployments.patch("web", &dry, &patch)).await,
        1.0,
        "a dry run too"
    );

    let denied = merge(annotate("headstart.dev/max-nodes", "many"))
        .await
        .unwrap_err();
    let kube::Error::Api(status) = denied else {
        panic!("{denied}");
    };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    for part in [
        "annotations.headstart.dev",
        "headstart.dev/max-nodes",
        "\"many\"",
        "a number such as 50",
    ] {
        assert!(status.message.contains(part), "{}", status.message);
    }

    // kubectl prints warnings to standard error, and refuses to go on with --warnings-as-errors.
    let manifest = serde_json::to_value(deployment("odd", "app:1")).unwrap();
    let mut manifest = manifest;
    manifest["apiVersion"] = json!("apps/v1");
    manifest["kind"] = json!("Deployment");
    manifest["metadata"]["namespace"] = json!(SHOP);
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!("Not/Valid");
    let warned = installation
        .cluster
        .kubectl_with_input(
            &["create", "--warnings-as-errors", "-f", "-"],
            &manifest.to_string(),
        )
        .await
        .unwrap_err()
        .to_string();
    assert!(
        warned.contains("Warning: headstart: image Not/Valid"),
        "{warned}"
    );
    assert_eq!(
        installation.failed_open().await - failed,
        0.0,
        "{:?}",
        installation.call_errors()
    );
}

/// `--client-ca`: who shows no certificate of that CA is not spoken to, and the API server can show one.
#[tokio::test]
async fn with_a_client_ca_only_its_clients_are_answered() {
    let installation = Installation::new().await;
    let ours = &installation.callers.ca;
    let now = time::OffsetDateTime::now_utc();
    let theirs = Ca::generate(now, Duration::from_secs(3600)).unwrap();
    let file = installation.cluster.dir().join("client-ca.pem");
    std::fs::write(&file, ours.cert()).unwrap();
    let replica = installation.replica("replica", &["--client-ca", file.to_str().unwrap()]);
    installation.call_at(replica.port).await;
    replica.ready().await;
    let bundle = installation.bundles().await.swap_remove(0);
    let body = client::review("web", 10);
    // In TLS 1.3 a client learns that it was refused by its first read.
    let post = async |tls: Tls| {
        let mut stream = tls.connect(replica.port).await?;
        client::post(&mut stream, "/mutate", &body).await
    };
    assert!(post(Tls::trusting(&bundle)).await.is_err());
    let stranger = Tls::presenting(&bundle, &client_of(&theirs));
    assert!(post(stranger).await.is_err());
    let answer = post(Tls::presenting(&bundle, &client_of(ours))).await;
    assert!(client::is_allowed(&answer), "{answer:?}");

    called(&installation).await;
    let failed = installation.failed_open().await;
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let (create, web) = (PostParams::default(), deployment("web", "app:1"));
    let create = deployments.create(&create, &web);
    assert_eq!(asked(&replica, create).await, 1.0);
    assert_eq!(installation.failed_open().await - failed, 0.0);
}
