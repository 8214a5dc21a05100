//! What headstart's own account may create, tried with its own token.

use headstart::domain::node::PullMethod;
use headstart::domain::pod::{Pin, PodSettings, RunAs, prefetch_pod};
use headstart::domain::workload::Workload;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::{Value, json};

use crate::installation::{Installation, OWN, SHOP, deployment, until};

pub(crate) async fn headstarts_own_client(installation: &Installation) -> Client {
    let path = installation
        .cluster
        .service_account_kubeconfig(OWN, "headstart")
        .await
        .unwrap();
    let file = Kubeconfig::read_from(path).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn headstart_can_create_the_pods_that_prefetch_and_no_others() {
    let installation = Installation::new().await;
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let mut web = deployment("web", "app:1");
    let spec = web.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.image_pull_secrets = Some(vec![Default::default()]);
    spec.containers
        .push(serde_json::from_value(json!({"name": "b", "image": "b:1"})).unwrap());
    let web = deployments
        .create(&PostParams::default(), &web)
        .await
        .unwrap();
    let workload = Workload::from_deployment(&web).unwrap();
    let settings = |pin: Pin| PodSettings {
        noop_image: "headstart:test".into(),
        method: None,
        pin,
        priority_class: Some("headstart-prefetch".into()),
        run_as: RunAs::Default,
        deadline_seconds: 1800,
    };
    let pods: Api<Pod> = Api::namespaced(headstarts_own_client(&installation).await, SHOP);
    let create = async |pod: &Value| {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        pods.create(&PostParams::default(), &pod).await
    };
    is_in_force(&pods, &workload, &settings(Pin::NodeName)).await;
    for (method, pin) in [
        (PullMethod::ImageVolume, Pin::NodeName),
        (PullMethod::Container, Pin::NodeName),
        (PullMethod::ImageVolume, Pin::Affinity),
    ] {
        // On no node that exists: it is about whether it may be created.
        let pod = prefetch_pod(&workload, "elsewhere", method, &settings(pin));
        let pod = serde_json::to_value(pod).unwrap();
        let created = create(&pod).await.expect("what headstart really creates");
        pods.delete(
            &created.name_any(),
            &DeleteParams::default().grace_period(0),
        )
        .await
        .unwrap();

        for (what, path, value, message) in forbidden() {
            let mut pod = pod.clone();
            set(&mut pod, path, value);
            match create(&pod).await {
                Err(kube::Error::Api(status)) => {
                    assert!(
                        status.message.contains(message),
                        "{method:?}, {what}: {}",
                        status.message
                    );
                }
                other => panic!("{method:?}, {what}: {other:?}"),
            }
        }
    }
    // Others are none of the policy's business.
    let everyone: Api<Pod> = Api::namespaced(installation.client.clone(), SHOP);
    let bare = json!({"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
    let bare: Pod = serde_json::from_value(bare).unwrap();
    everyone
        .create(&PostParams::default(), &bare)
        .await
        .unwrap();
    everyone
        .delete("bare", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
}

/// Waits until the policy is in force, which takes a moment.
async fn is_in_force(pods: &Api<Pod>, workload: &Workload, settings: &PodSettings) {
    let pod = prefetch_pod(workload, "elsewhere", PullMethod::ImageVolume, settings);
    let mut pod = serde_json::to_value(pod).unwrap();
    let (_, path, value, message) = forbidden().into_iter().next().unwrap();
    set(&mut pod, path, value);
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let try_out = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    until("the policy to be in force", async || {
        let tried = pods.create(&try_out, &pod).await;
        tried.is_err_and(|error| error.to_string().contains(message))
    })
    .await;
}

#[tokio::test]
async fn headstart_can_read_and_write_no_other_secrets() {
    let installation = Installation::new().await;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::namespaced(headstarts_own_client(&installation).await, OWN);
    let forbidden =
        |error: kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    assert!(forbidden(secrets.get("other").await.unwrap_err()));
    assert!(forbidden(
        secrets.list(&Default::default()).await.unwrap_err()
    ));
    let params = DeleteParams::default();
    let deleted = secrets.delete("headstart-ca", &params).await;
    assert!(forbidden(deleted.unwrap_err()));
}

/// Sets a value below a path, making the maps on the way; a list's first element stands for it.
fn set(pod: &mut Value, path: &str, value: Value) {
    let mut at = pod;
    for part in path.split('.') {
        at = match part.parse::<usize>() {
            Ok(index) => {
                let list = at.as_array_mut().unwrap();
                if index == list.len() {
                    list.push(Value::Null);
                }
                &mut list[index]
            }
            Err(_) => {
                if at.is_null() {
                    *at = json!({});
                }
                &mut at[part]
            }
        };
    }
    *at = value;
}

/// What is changed of a good pod, and the policy's words for it.
fn forbidden() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let only_noop = "runs nothing but the no-op";
    let volumes = "no volumes but images";
    let privilege = "has no privilege";
    let environment = "no environment, ports or devices";
    let container = |name: &str, command: Value| {
        json!([{"name": name, "image": "evil:1", "command": command, "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}}])
    };
    let volume = |source: Value| {
        let mut volumes = json!([{"name": "image-0", "image": {"reference": "a:1"}},
            {"name": "image-1", "image": {"reference": "a:1"}}, {"name": "noop", "emptyDir": {}}, {"name": "evil"}]);
        for (kind, source) in source.as_object().unwrap() {
            volumes[3][kind] = source.clone();
        }
        volumes
    };
    vec![
        (
            "no managed-by label",
            "metadata.labels",
            json!({}),
            "managed-by",
        ),
        (
            "no owner",
            "metadata.ownerReferences",
            json!([]),
            "a Deployment as its owner",
        ),
        (
            "host network",
            "spec.hostNetwork",
            json!(true),
            "shares no namespace",
        ),
        (
            "host PIDs",
            "spec.hostPID",
            json!(true),
            "shares no namespace",
        ),
        (
            "host IPC",
            "spec.hostIPC",
            json!(true),
            "shares no namespace",
        ),
        (
            "a token",
            "spec.automountServiceAccountToken",
            json!(true),
            "no ServiceAccount token",
        ),
        (
            "a token by default",
            "spec.automountServiceAccountToken",
            Value::Null,
            "no ServiceAccount token",
        ),
        (
            "restarts",
            "spec.restartPolicy",
            json!("Always"),
            "a prefetch pod ends",
        ),
        (
            "no deadline",
            "spec.activeDeadlineSeconds",
            Value::Null,
            "a prefetch pod ends",
        ),
        (
            "a host path",
            "spec.volumes",
            volume(json!({"hostPath": {"path": "/"}})),
            volumes,
        ),
        (
            "a Secret",
            "spec.volumes",
            volume(json!({"secret": {"secretName": "s"}})),
            volumes,
        ),
        (
            "a projected token",
            "spec.volumes",
            volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
            volumes,
        ),
        (
            "a claim",
            "spec.volumes",
            volume(json!({"persistentVolumeClaim": {"claimName": "c"}})),
            volumes,
        ),
        (
            "another emptyDir",
            "spec.volumes",
            volume(json!({"emptyDir": {}})),
            volumes,
        ),
        (
            "another command",
            "spec.containers",
            container("image-0", json!(["sh"])),
            only_noop,
        ),
        (
            "the image's own command",
            "spec.containers",
            container("image-0", Value::Null),
            only_noop,
        ),
        (
            "arguments",
            "spec.containers.0.args",
            json!(["x"]),
            only_noop,
        ),
        (
            "a hook",
            "spec.containers.0.lifecycle",
            json!({"postStart": {"exec": {"command": ["sh"]}}}),
            only_noop,
        ),
        (
            "another init container",
            "spec.initContainers",
            container("init", json!(["sh"])),
            only_noop,
        ),
        (
            "a Secret's environment",
            "spec.containers.0.envFrom",
            json!([{"secretRef": {"name": "s"}}]),
            environment,
        ),
        (
            "a variable",
            "spec.containers.0.env",
            json!([{"name": "A", "value": "b"}]),
            environment,
        ),
        (
            "a host port",
            "spec.containers.0.ports",
            json!([{"containerPort": 80, "hostPort": 80}]),
            environment,
        ),
        (
            "privileged",
            "spec.containers.0.securityContext",
            json!({"privileged": true, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}),
            privilege,
        ),
        (
            "escalation",
            "spec.containers.0.securityContext.allowPrivilegeEscalation",
            json!(true),
            privilege,
        ),
        (
            "a capability",
            "spec.containers.0.securityContext.capabilities.add",
            json!(["NET_ADMIN"]),
            privilege,
        ),
        (
            "root",
            "spec.containers.0.securityContext.runAsUser",
            json!(0),
            privilege,
        ),
        (
            "root allowed",
            "spec.securityContext.runAsNonRoot",
            json!(false),
            privilege,
        ),
        (
            "unconfined",
            "spec.securityContext.seccompProfile",
            json!({"type": "Unconfined"}),
            privilege,
        ),
    ]
}
