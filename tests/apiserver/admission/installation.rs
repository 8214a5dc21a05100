//! headstart in a real control plane: its own manifests, but for the pods, which are processes here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use testbed::control_plane::Options;
use testbed::harness::{self, lock::Alone};
pub(crate) use testbed::harness::{PATIENCE, until};
use testbed::headstart::Local;
use testbed::writes::Writes;
use testbed::{Component, ControlPlane, FakeNodes};
use tokio::sync::OnceCell;

use crate::admission::callers::Callers;
use crate::admission::replica::Replica;
use crate::{FEW_NODES, Machine, machine};

/// headstart's namespace, and that of the Deployments.
pub(crate) const OWN: &str = "headstart";
pub(crate) const SHOP: &str = "shop";
/// The number of Deployments that take turns in a stream of writes.
pub(crate) const DEPLOYMENTS: usize = 5;

static CLUSTER: OnceCell<(ControlPlane, Callers, PathBuf)> = OnceCell::const_new();
/// Tells apart the logs of replicas with the same name.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Returns the content of the `caBundle` of the first webhook.
pub(crate) async fn bundle(client: &Client) -> String {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let webhooks = configurations.get(OWN).await.unwrap().webhooks.unwrap();
    let bundle = webhooks[0].client_config.ca_bundle.clone();
    String::from_utf8(bundle.unwrap_or_default().0).unwrap()
}

/// headstart's manifests in a control plane, for one test.
pub(crate) struct Installation {
    pub(crate) cluster: &'static ControlPlane,
    pub(crate) callers: &'static Callers,
    pub(crate) client: Client,
    kubeconfig: &'static Path,
    _only: Turn,
}

/// The lock that keeps other tests away.
enum Turn {
    Installation { _turn: Alone<()> },
    Machine { _turn: Machine },
}

impl Installation {
    /// Applies the manifests, with nothing left of the test before. No replica is called yet.
    pub(crate) async fn new() -> Self {
        let turn = FEW_NODES.as_it_is().await;
        Self::with(Turn::Installation { _turn: turn }).await
    }

    /// The same, for a test that measures.
    pub(crate) async fn with_the_machine() -> Self {
        let turn = machine().await;
        Self::with(Turn::Machine { _turn: turn }).await
    }

    async fn with(only: Turn) -> Self {
        let (cluster, callers, kubeconfig) = CLUSTER.get_or_init(start_cluster).await;
        let client = cluster.client().unwrap();
        let installation = Self {
            cluster,
            callers,
            client,
            kubeconfig,
            _only: only,
        };
        installation.apply_manifests().await;
        installation.forget_state().await;
        installation.delete_deployments().await;
        installation
    }

    async fn delete_deployments(&self) {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), SHOP);
        let all = (DeleteParams::default(), ListParams::default());
        deployments.delete_collection(&all.0, &all.1).await.unwrap();
        until("no Deployment to be left", async || {
            deployments
                .list_metadata(&all.1)
                .await
                .unwrap()
                .items
                .is_empty()
        })
        .await;
    }

    /// Deletes what headstart keeps in the cluster: its CA, in the Secret and the configurations, and its lease.
    pub(crate) async fn forget_state(&self) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), OWN);
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OWN);
        let _ = secrets
            .delete("headstart-ca", &DeleteParams::default())
            .await;
        let _ = leases.delete("headstart", &DeleteParams::default()).await;
        self.set_bundles(b"").await;
    }

    /// Has the API server call this port of the loopback interface.
    pub(crate) async fn call_at(&self, port: u16) {
        Local::call_at(self.cluster, port).await.unwrap();
    }

    /// Applies the manifests, with nobody called: what a test has changed of them is as before.
    pub(crate) async fn apply_manifests(&self) {
        Local::apply_manifests(self.cluster).await.unwrap();
    }

    /// Applies an object as the administrator.
    pub(crate) async fn apply(&self, object: &serde_json::Value) {
        let arguments = ["apply", "-f", "-"];
        let applied = self
            .cluster
            .kubectl_with_input(&arguments, &object.to_string())
            .await;
        applied.unwrap();
    }

    /// Returns the content of the `caBundle` of each webhook of both configurations.
    pub(crate) async fn bundles(&self) -> Vec<String> {
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let mutating = mutating.get(OWN).await.unwrap().webhooks.unwrap();
        let validating = validating.get(OWN).await.unwrap().webhooks.unwrap();
        let mutating = mutating.into_iter().map(|webhook| webhook.client_config);
        let validating = validating.into_iter().map(|webhook| webhook.client_config);
        mutating
            .chain(validating)
            .map(|client| client.ca_bundle.unwrap_or_default().0)
            .map(|bundle| String::from_utf8(bundle).unwrap())
            .collect()
    }

    /// Overwrites every `caBundle`, as a person or a tool could.
    pub(crate) async fn set_bundles(&self, bundle: &[u8]) {
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let count = mutating.get(OWN).await.unwrap().webhooks.unwrap().len();
        let params = PatchParams::default();
        let patch = set_bundle(bundle, count);
        mutating.patch(OWN, &params, &patch).await.unwrap();
        let count = validating.get(OWN).await.unwrap().webhooks.unwrap().len();
        let patch = set_bundle(bundle, count);
        validating.patch(OWN, &params, &patch).await.unwrap();
    }

    /// The Secret with the CA.
    pub(crate) async fn secret(&self) -> Option<Secret> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), OWN);
        secrets.get_opt("headstart-ca").await.unwrap()
    }

    /// Starts a replica with these flags besides those that a pod would need.
    pub(crate) fn replica(&self, name: &str, flags: &[&str]) -> Replica {
        let command = Command::new(env!("CARGO_BIN_EXE_headstart"));
        self.replica_by(command, name, flags)
    }

    /// As [`Self::replica`], by this command.
    pub(crate) fn replica_by(&self, command: Command, name: &str, flags: &[&str]) -> Replica {
        // Replicas with the same name have logs of their own.
        let name = format!("{name}-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        Replica::new(Local::spawn(self.cluster, &name, command, self.kubeconfig, flags).unwrap())
    }

    /// A stream of writes of [`DEPLOYMENTS`] Deployments.
    pub(crate) async fn writes(&self) -> Writes {
        let all = (0..DEPLOYMENTS).map(|index| deployment(&format!("web-{index}"), "app:0"));
        let api = Api::namespaced(self.client.clone(), SHOP);
        Writes::start(api, all.collect()).await.unwrap()
    }

    /// Returns the number of writes that the API server let through because a webhook of headstart could not be called.
    pub(crate) async fn failed_open(&self) -> f64 {
        self.count("apiserver_admission_webhook_fail_open_count{")
            .await
    }

    /// Returns the number of times that the API server called headstart.
    pub(crate) async fn calls(&self) -> f64 {
        self.count("apiserver_admission_webhook_request_total{")
            .await
    }

    async fn count(&self, metric: &str) -> f64 {
        let metrics = self.cluster.metrics().await.unwrap();
        metrics
            .lines()
            .filter(|line| line.starts_with(metric) && line.contains("headstart.dev"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Returns the lines of the API server's log about calls that failed.
    pub(crate) fn call_errors(&self) -> Vec<String> {
        let log = fs::read_to_string(self.cluster.log(Component::ApiServer)).unwrap();
        log.lines()
            .filter(|line| line.to_lowercase().contains("failed calling webhook"))
            .map(str::to_owned)
            .collect()
    }
}

async fn start_cluster() -> (ControlPlane, Callers, PathBuf) {
    let callers = Callers::new();
    let configuration = callers.admission_configuration.display();
    let options = Options {
        api_server_arguments: vec![
            format!("--admission-control-config-file={configuration}"),
            // What a node may ask for is limited as in every real cluster.
            "--enable-admission-plugins=NodeRestriction".to_owned(),
        ],
        ..Options::default()
    };
    let cluster = ControlPlane::start(options).await.unwrap();
    let kubeconfig = Local::install(&cluster).await.unwrap();
    let shop = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": SHOP, "labels": {"headstart.dev/prefetch": "enabled"}},
    });
    cluster
        .kubectl_with_input(&["apply", "-f", "-"], &shop.to_string())
        .await
        .unwrap();
    cluster.takes_pods(SHOP).await.unwrap();
    let nodes = FakeNodes {
        count: 2,
        ..FakeNodes::default()
    };
    cluster.add_fake_nodes(nodes, |_, _| {}).await.unwrap();
    (cluster, callers, kubeconfig)
}

fn set_bundle(bundle: &[u8], webhooks: usize) -> Patch<()> {
    let value = ByteString(bundle.to_vec());
    let set = |webhook: usize| {
        let path = format!("/webhooks/{webhook}/clientConfig/caBundle");
        json!({"op": "add", "path": path, "value": value})
    };
    Patch::Json(serde_json::from_value((0..webhooks).map(set).collect()).unwrap())
}

/// One that runs nowhere, so that nothing but the write is measured.
pub(crate) fn deployment(name: &str, image: &str) -> Deployment {
    let pod = json!({ "containers": [{ "name": "app", "image": image }] });
    let mut object = harness::deployment(SHOP, name, pod);
    object["spec"]["replicas"] = json!(0);
    serde_json::from_value(object).unwrap()
}
