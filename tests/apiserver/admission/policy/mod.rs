//! Tests of the rights of headstart's own account, with its own token. Everything that a policy forbids is refused by
//! that policy's name, also where RBAC would allow everything. Everything that headstart does is allowed.

mod elsewhere;
mod expressions;
mod forgeries;
mod mutators;
mod nodes;
mod others;
mod pods;
mod requests;
mod self_test;
mod webhooks;

use headstart_core::pod::{NodeBinding, PodSettings, prefetch_pod};
use headstart_core::scheduling::node::PullMethod;
use headstart_core::workload::Workload;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use testbed::headstart::LOCAL_IMAGE;

use crate::admission::installation::{Installation, OWN, SHOP, deployment, until};
use requests::{Refusal, Request};

/// A client with headstart's own token.
pub(crate) async fn headstarts_own_client(installation: &Installation) -> Client {
    client_of(installation, OWN, "headstart").await
}

/// The same, with the rights of the manifests and no others, and the policies in force.
async fn bounded(installation: &Installation) -> Client {
    let own = headstarts_own_client(installation).await;
    revoke(installation, &own).await;
    in_force(&own).await;
    own
}

/// A client with a ServiceAccount's token.
pub(crate) async fn client_of(installation: &Installation, namespace: &str, name: &str) -> Client {
    let accounts = installation.cluster;
    let path = accounts.service_account_kubeconfig(namespace, name).await;
    let file = Kubeconfig::read_from(path.unwrap()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// A Deployment, and how a cluster pulls its images.
struct Web {
    workload: Workload,
    /// Kubernetes 1.35 and later mount images as volumes. An API server before that drops the field.
    image_volumes: bool,
}

/// The Deployment `web` of two images, as it is stored.
async fn web(installation: &Installation) -> Web {
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let mut web = deployment("web", "app:1");
    let spec = web.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.image_pull_secrets = Some(vec![Default::default()]);
    spec.containers
        .push(serde_json::from_value(json!({"name": "b", "image": "b:1"})).unwrap());
    let created = deployments.create(&PostParams::default(), &web).await;
    let version = installation.client.apiserver_version().await.unwrap();
    let minor = version.minor.trim_end_matches('+');
    Web {
        workload: Workload::from_deployment(&created.unwrap()).unwrap(),
        image_volumes: minor.parse::<u32>().unwrap() >= 35,
    }
}

fn settings(pin: NodeBinding) -> PodSettings {
    PodSettings {
        binding: pin,
        priority_class: Some("headstart-prefetch".into()),
        ..PodSettings::new(LOCAL_IMAGE)
    }
}

/// Returns the pods that headstart creates, in all their forms, on a node that does not exist: only the permission is
/// tested.
fn made(web: &Web) -> Vec<Value> {
    let mut forms = vec![
        (PullMethod::Container, NodeBinding::NodeName),
        (PullMethod::Container, NodeBinding::Affinity),
    ];
    if web.image_volumes {
        forms.push((PullMethod::ImageVolume, NodeBinding::NodeName));
        forms.push((PullMethod::ImageVolume, NodeBinding::Affinity));
    }
    let pod = |(method, pin)| prefetch_pod(&web.workload, "elsewhere", method, &settings(pin));
    let pods = forms.into_iter().map(pod);
    pods.map(|pod| serde_json::to_value(pod).unwrap()).collect()
}

/// Sends each request, and expects that the policy refuses it.
async fn refused(client: &Client, refusals: Vec<Refusal>) -> usize {
    let count = refusals.len();
    let mut wrong = Vec::new();
    for Refusal {
        what,
        request,
        policy,
        message,
    } in refusals
    {
        let by = format!("ValidatingAdmissionPolicy '{policy}'");
        match request.send(client).await {
            Err(kube::Error::Api(status))
                if status.message.contains(&by) && status.message.contains(message) => {}
            Err(error) => wrong.push(format!("{what}: {error}")),
            Ok(_) => wrong.push(format!("{what}: allowed")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    count
}

/// Waits until a policy is in force, which takes a moment after it was applied.
async fn in_force(client: &Client) {
    let refusals = [webhooks::first_refusal(), pods::first_refusal()];
    for refusal in refusals {
        until(refusal.policy, async || {
            let tried = refusal.request.send(client).await;
            tried.is_err_and(|error| error.to_string().contains(refusal.policy))
        })
        .await;
    }
}

/// Gives an account every right that RBAC can give, until `revoke`: then only policies refuse.
async fn grant_everything(installation: &Installation, client: &Client, account: &str) {
    let account = format!("--serviceaccount={account}");
    let create = [
        "create",
        "clusterrolebinding",
        EVERYTHING,
        "--clusterrole=cluster-admin",
        &account,
    ];
    installation.cluster.kubectl(&create).await.unwrap();
    until("the rights to be there", async || {
        let nodes = Request::get("/api/v1/nodes?limit=1");
        let secrets = Request::get("/api/v1/secrets?limit=1");
        nodes.send(client).await.is_ok() && secrets.send(client).await.is_ok()
    })
    .await;
}

async fn revoke(installation: &Installation, client: &Client) {
    let delete = [
        "delete",
        "clusterrolebinding",
        EVERYTHING,
        "--ignore-not-found",
    ];
    installation.cluster.kubectl(&delete).await.unwrap();
    until("the rights to be gone", async || {
        let secrets = Request::get("/api/v1/secrets?limit=1");
        secrets.send(client).await.is_err()
    })
    .await;
}

const EVERYTHING: &str = "policy-test-everything";

/// Every request that is forbidden to an installation in this namespace.
fn forbidden(own: &str, web: &Web) -> Vec<Refusal> {
    let mut all = webhooks::forbidden();
    for pod in made(web) {
        all.extend(pods::forbidden(&pod, web.image_volumes));
    }
    all.extend(pods::forbidden_places(&made(web)[0], own));
    all.extend(pods::forbidden_deletes(own));
    all.extend(others::forbidden(own));
    all
}

#[tokio::test]
async fn policy_refuses_what_headstart_never_does_whatever_rbac_allows() {
    let installation = Installation::new().await;
    let own = bounded(&installation).await;
    let web = web(&installation).await;
    pods::make_victims(&installation, OWN).await;
    others::make_held(&installation).await;
    grant_everything(&installation, &own, "headstart:headstart").await;
    let count = refused(&own, forbidden(OWN, &web)).await;
    revoke(&installation, &own).await;
    pods::remove_victims(&installation, OWN).await;
    println!("{count} requests refused, each by its policy");
    assert!(count >= 60, "{count}");
}

/// The largest prefetch: as many images, tolerations and pull secrets as headstart takes. An expression has a budget.
fn largest(web: &Web) -> Web {
    let mut large = web.workload.clone();
    let image = large.images[0].clone();
    large.images = std::iter::repeat_n(image, 64).collect();
    let toleration = |index| {
        let toleration = json!({ "key": format!("k{index}"), "operator": "Exists" });
        serde_json::from_value(toleration).unwrap()
    };
    large.constraints.tolerations = (0..64).map(toleration).collect();
    large.terms.image_pull_secrets = (0..16).map(|index| format!("secret-{index}")).collect();
    Web {
        workload: large,
        image_volumes: web.image_volumes,
    }
}

#[tokio::test]
async fn policy_allows_what_headstart_does() {
    let installation = Installation::new().await;
    let own = bounded(&installation).await;
    let web = web(&installation).await;
    others::make_held(&installation).await;
    for pod in made(&web) {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/namespaces/{SHOP}/pods");
        let created = Request::post(&path, pod).send(&own).await.unwrap();
        assert_eq!(created["spec"]["serviceAccountName"], "default");
        let now = json!({ "gracePeriodSeconds": 0 });
        let delete = Request::delete(&format!("{path}/{name}"), now);
        delete.send(&own).await.unwrap();
    }
    // As OpenShift completes a pod that leaves its user open.
    let mut open = made(&web).remove(0);
    open["spec"]["securityContext"] = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" },
        "fsGroup": 1_000_680_000, "seLinuxOptions": { "level": "s0:c26,c5" } });
    open["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(1_000_680_000);
    let path = format!("/api/v1/namespaces/{SHOP}/pods?dryRun=All");
    Request::post(&path, open).send(&own).await.unwrap();
    for pod in made(&largest(&web)) {
        let path = format!("/api/v1/namespaces/{SHOP}/pods?dryRun=All");
        let size = pod.to_string().len();
        let created = Request::post(&path, pod).send(&own).await;
        created.unwrap_or_else(|error| panic!("a pod of {size} bytes: {error}"));
    }
    for request in webhooks::allowed(&installation).await {
        request.send(&own).await.unwrap();
    }
    // The CronJob resumes too, and the same policy bounds it.
    let release = client_of(&installation, OWN, "headstart-release").await;
    for refusal in others::forbidden_to_release() {
        let answer = refusal.request.send(&release).await;
        let refused = answer.is_err_and(|error| error.to_string().contains(refusal.policy));
        assert!(refused, "{}", refusal.what);
    }
    others::resume("?dryRun=All").send(&release).await.unwrap();
    for request in others::allowed(OWN) {
        request.send(&own).await.unwrap();
    }
    // Others are none of the policies' business.
    let bare = json!({"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
    let everyone = Request::post(&format!("/api/v1/namespaces/{SHOP}/pods?dryRun=All"), bare);
    everyone.send(&installation.client).await.unwrap();
}

#[tokio::test]
async fn policy_or_not_rbac_gives_no_other_secrets() {
    let installation = Installation::new().await;
    let own = headstarts_own_client(&installation).await;
    revoke(&installation, &own).await;
    let secrets = format!("/api/v1/namespaces/{OWN}/secrets");
    for request in [
        Request::get(&format!("{secrets}/other")),
        Request::get(&secrets),
        Request::delete(&format!("{secrets}/headstart-ca"), json!({})),
        Request::get("/api/v1/serviceaccounts"),
        Request::get(&format!("/api/v1/namespaces/{OWN}/pods/a")),
    ] {
        let answer = request.send(&own).await;
        let Err(kube::Error::Api(status)) = answer else {
            panic!("{}: {answer:?}", request.path());
        };
        assert_eq!(status.code, 403, "{}: {}", request.path(), status.message);
    }
}
