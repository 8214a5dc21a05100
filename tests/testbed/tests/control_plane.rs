//! Control planes and fake nodes, for real. Needs Go, no root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use testbed::control_plane::Options;
use testbed::process::Wait;
use testbed::{Component, ControlPlane, FakeNodes};
use tokio::sync::OnceCell;

/// The longest time for anything, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();

/// One control plane for all tests here; statics are not dropped, its reaper ends it with this process.
async fn cluster() -> &'static ControlPlane {
    let start = async || {
        let cluster = ControlPlane::start(Options {
            audit: true,
            ..Options::default()
        })
        .await
        .unwrap();
        let fake = FakeNodes {
            count: 1000,
            pull_failures: 0.5,
            ..FakeNodes::default()
        };
        cluster
            .add_fake_nodes(fake, |index, node| {
                node.labels_mut().insert(
                    "pool".into(),
                    if index < 100 { "small" } else { "large" }.into(),
                );
            })
            .await
            .unwrap();
        cluster
    };
    CLUSTER.get_or_init(start).await
}

fn prefetch_pod(name: &str, node: &str, image: &str) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": { "name": name, "labels": { "app.kubernetes.io/managed-by": "headstart" } },
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "containers": [{ "name": "image-0", "image": "headstart", "volumeMounts": [{ "name": "image-0", "mountPath": "/image" }] }],
            "volumes": [{ "name": "image-0", "image": { "reference": image } }],
        },
    }))
    .unwrap()
}

/// The pod's phase and what its container waits for, once the pod is through.
async fn outcome(pods: &Api<Pod>, name: &str) -> (String, String) {
    let wait = Wait::new(format!("the end of pod {name}"), LIMIT);
    loop {
        let status = pods.get(name).await.unwrap().status.unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        let waiting = status
            .container_statuses
            .unwrap_or_default()
            .into_iter()
            .find_map(|status| status.state?.waiting?.reason);
        let waiting = waiting.unwrap_or_default();
        if phase == "Succeeded" || waiting == "ImagePullBackOff" {
            return (phase, waiting);
        }
        wait.pause().await.unwrap();
    }
}

#[tokio::test]
async fn two_control_planes_run_side_by_side_and_leave_nothing() {
    let (first, second) = tokio::join!(
        ControlPlane::start(Options::default()),
        ControlPlane::start(Options::default())
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    first
        .kubectl(&["create", "namespace", "only-in-first"])
        .await
        .unwrap();
    assert!(
        first
            .kubectl(&["get", "namespaces"])
            .await
            .unwrap()
            .contains("only-in-first")
    );
    assert!(
        !second
            .kubectl(&["get", "namespaces"])
            .await
            .unwrap()
            .contains("only-in-first")
    );
    assert!(
        first
            .kubectl(&["version"])
            .await
            .unwrap()
            .contains("v1.37.2")
    );

    let directory = first.dir().to_owned();
    drop(first);
    assert!(!directory.exists());
}

#[tokio::test]
async fn the_api_server_can_be_restarted_and_keeps_its_objects() {
    let cluster = ControlPlane::start(Options::default()).await.unwrap();
    cluster
        .kubectl(&["create", "namespace", "survivor"])
        .await
        .unwrap();
    cluster.stop_component(Component::ApiServer);
    assert!(cluster.kubectl(&["get", "namespaces"]).await.is_err());
    cluster.start_component(Component::ApiServer).await.unwrap();
    assert!(
        cluster
            .kubectl(&["get", "namespaces"])
            .await
            .unwrap()
            .contains("survivor")
    );
}

#[tokio::test]
async fn a_thousand_fake_nodes_run_the_pods_of_a_deployment() {
    let cluster = cluster().await;
    let nodes: Api<Node> = Api::all(cluster.client().unwrap());
    assert_eq!(
        nodes
            .list(&ListParams::default().labels("pool=small"))
            .await
            .unwrap()
            .items
            .len(),
        100
    );
    assert_eq!(
        nodes
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1000
    );

    cluster
        .kubectl(&[
            "create",
            "deployment",
            "web",
            "--image=example.com/web:1",
            "--replicas=20",
        ])
        .await
        .unwrap();
    cluster
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=300s"])
        .await
        .unwrap();
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client().unwrap());
    assert_eq!(
        deployments
            .get("web")
            .await
            .unwrap()
            .status
            .unwrap()
            .available_replicas,
        Some(20)
    );
    let events = cluster.audit_events("deployments").unwrap();
    let created = events.iter().filter(|event| {
        event.verb == "create" && event.resource == "deployments" && event.code == 201
    });
    assert_eq!(created.count(), 1);
    assert!(
        cluster
            .metrics()
            .await
            .unwrap()
            .contains("apiserver_request_total")
    );
}

#[tokio::test]
async fn some_prefetch_pods_fail_to_pull_and_missing_images_always_do() {
    let cluster = cluster().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client().unwrap());
    let parameters = PostParams::default();
    for index in 0..40 {
        let name = format!("prefetch-{index}");
        pods.create(
            &parameters,
            &prefetch_pod(&name, &format!("fake-{index}"), "example.com/web:1"),
        )
        .await
        .unwrap();
        let name = format!("missing-{index}");
        pods.create(
            &parameters,
            &prefetch_pod(&name, &format!("fake-{index}"), "example.com/web:missing"),
        )
        .await
        .unwrap();
    }
    let mut failed = 0;
    for index in 0..40 {
        match outcome(&pods, &format!("prefetch-{index}")).await {
            (phase, waiting) if phase == "Succeeded" && waiting.is_empty() => {}
            (phase, waiting) if phase == "Pending" && waiting == "ImagePullBackOff" => failed += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(
            outcome(&pods, &format!("missing-{index}")).await.0,
            "Pending"
        );
    }
    assert!(
        (5..=35).contains(&failed),
        "{failed} of 40 failed, of which half should"
    );
    let pod = pods.get("missing-0").await.unwrap();
    let statuses = pod.status.unwrap().container_statuses.unwrap();
    let message = statuses[0]
        .state
        .clone()
        .unwrap()
        .waiting
        .unwrap()
        .message
        .unwrap();
    assert!(
        message.contains("example.com/web:missing: not found"),
        "{message}"
    );
}

#[tokio::test]
async fn a_service_account_has_the_rights_it_was_given_and_no_more() {
    let cluster = cluster().await;
    cluster
        .kubectl(&["create", "serviceaccount", "reader"])
        .await
        .unwrap();
    let kubeconfig = cluster
        .service_account_kubeconfig("default", "reader")
        .await
        .unwrap();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let denied = cluster
        .kubectl(&["--kubeconfig", kubeconfig, "get", "pods"])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        denied.contains("system:serviceaccount:default:reader"),
        "{denied}"
    );
    cluster
        .kubectl(&[
            "create",
            "rolebinding",
            "reader",
            "--clusterrole=view",
            "--serviceaccount=default:reader",
        ])
        .await
        .unwrap();
    let get = ["--kubeconfig", kubeconfig, "get", "pods"];
    Wait::new("the role to be in force", LIMIT)
        .until(async || cluster.kubectl(&get).await.is_ok())
        .await
        .unwrap();
}
