//! headstart in a real control plane: its own manifests, but for the pods, which are processes here.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use testbed::control_plane::Options;
use testbed::process::Wait;
use testbed::run_dir::MARKER;
use testbed::{Component, ControlPlane, FakeNodes};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::callers::Callers;
use crate::client;

/// headstart's namespace, and that of the Deployments.
pub(crate) const OWN: &str = "headstart";
pub(crate) const SHOP: &str = "shop";
/// How long anything may take that takes a second on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static CLUSTER: OnceCell<(ControlPlane, Callers)> = OnceCell::const_new();
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
/// Tells apart the logs of replicas with the same name.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// headstart's manifests in a control plane, for one test.
pub(crate) struct Installation {
    pub(crate) cluster: &'static ControlPlane,
    pub(crate) callers: &'static Callers,
    pub(crate) client: Client,
    kubeconfig: PathBuf,
    _only: MutexGuard<'static, ()>,
}

impl Installation {
    /// Applies the manifests, with nothing left of the test before. Nobody is called yet.
    pub(crate) async fn new() -> Self {
        let only = ONE_AT_A_TIME.lock().await;
        let (cluster, callers) = CLUSTER.get_or_init(start_cluster).await;
        let client = cluster.client().unwrap();
        let kubeconfig = cluster
            .service_account_kubeconfig(OWN, "headstart")
            .await
            .unwrap();
        let installation = Self {
            cluster,
            callers,
            client,
            kubeconfig,
            _only: only,
        };
        installation.register(1).await;
        installation.forget_state().await;
        cluster
            .kubectl(&["delete", "deployments", "--all", "-n", SHOP])
            .await
            .unwrap();
        installation
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

    /// Has the API server call this port of the loopback interface, as the manifests have it call the Service.
    pub(crate) async fn register(&self, port: u16) {
        let mut manifests = manifests(self.cluster).await;
        manifests.retain(|manifest| {
            let kind = manifest["kind"].as_str().unwrap();
            kind.ends_with("WebhookConfiguration")
        });
        for webhook in manifests
            .iter_mut()
            .flat_map(|manifest| manifest["webhooks"].as_array_mut().unwrap())
        {
            let path = &webhook["clientConfig"]["service"]["path"];
            let url = format!("https://127.0.0.1:{port}{}", path.as_str().unwrap());
            webhook["clientConfig"]["service"] = Value::Null;
            webhook["clientConfig"]["url"] = json!(url);
        }
        apply(self.cluster, &manifests).await;
    }

    /// Both configurations, and what each webhook's `caBundle` holds.
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
        use k8s_openapi::ByteString;
        let patch = |webhooks: usize| {
            let set = (0..webhooks).map(|i| {
                json!({
                    "op": "add", "path": format!("/webhooks/{i}/clientConfig/caBundle"),
                    "value": ByteString(bundle.to_vec()),
                })
            });
            let patch = serde_json::from_value(set.collect()).unwrap();
            Patch::Json::<()>(patch)
        };
        let params = PatchParams::default();
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        mutating.patch(OWN, &params, &patch(2)).await.unwrap();
        validating.patch(OWN, &params, &patch(1)).await.unwrap();
    }

    /// The Secret with the CA.
    pub(crate) async fn secret(&self) -> Option<Secret> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), OWN);
        secrets.get_opt("headstart-ca").await.unwrap()
    }

    /// Starts a replica with these flags besides those that a pod would need.
    pub(crate) fn replica(&self, name: &str, flags: &[&str]) -> Replica {
        let (port, probes) = (free_port(), free_port());
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = self.cluster.dir().join(format!("log/{name}-{number}.log"));
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_headstart"))
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--probe-listen", &format!("127.0.0.1:{probes}")])
            .args(["--tls-san", "127.0.0.1"])
            .args(["--pod-name", &format!("{name}-{number}")])
            .args(["--noop-image", "headstart:test"])
            .args(flags)
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("NO_COLOR", "1")
            // By this the testbed ends it with the cluster, should this test end without doing so.
            .env(MARKER, self.cluster.dir())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Replica {
            child,
            port,
            probes,
            log,
        }
    }

    /// How often the API server let a write through because a webhook of headstart could not be called.
    pub(crate) async fn failed_open(&self) -> f64 {
        self.count("apiserver_admission_webhook_fail_open_count{")
            .await
    }

    /// How often the API server called headstart.
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

    /// What the API server's log says of calls that failed.
    pub(crate) fn call_errors(&self) -> Vec<String> {
        let log = fs::read_to_string(self.cluster.log(Component::ApiServer)).unwrap();
        log.lines()
            .filter(|line| line.to_lowercase().contains("failed calling webhook"))
            .map(str::to_owned)
            .collect()
    }
}

async fn start_cluster() -> (ControlPlane, Callers) {
    let callers = Callers::new();
    let configuration = callers.admission_configuration.display();
    let options = Options {
        api_server_arguments: vec![format!("--admission-control-config-file={configuration}")],
        ..Options::default()
    };
    let cluster = ControlPlane::start(options).await.unwrap();
    let mut all = manifests(&cluster).await;
    all.retain(|manifest| {
        let kind = manifest["kind"].as_str().unwrap();
        // The pods are processes here, and their webhooks are called by URL.
        !matches!(kind, "Deployment" | "Service" | "PodDisruptionBudget")
            && !kind.ends_with("WebhookConfiguration")
    });
    all.push(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": SHOP, "labels": {"headstart.dev/prefetch": "enabled"}},
    }));
    // Namespaces first.
    all.sort_by_key(|manifest| manifest["kind"] != "Namespace");
    apply(&cluster, &all).await;
    let nodes = FakeNodes {
        count: 2,
        ..FakeNodes::default()
    };
    cluster.add_fake_nodes(nodes, |_, _| {}).await.unwrap();
    (cluster, callers)
}

async fn manifests(cluster: &ControlPlane) -> Vec<Value> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
    let all = cluster.kubectl(&["kustomize", directory]).await.unwrap();
    use serde::Deserialize as _;
    serde_yaml::Deserializer::from_str(&all)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

async fn apply(cluster: &ControlPlane, manifests: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string();
    cluster
        .kubectl_with_input(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &list,
        )
        .await
        .unwrap();
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A replica of headstart. Dropping it kills it.
pub(crate) struct Replica {
    child: Child,
    pub(crate) port: u16,
    pub(crate) probes: u16,
    log: PathBuf,
}

impl Replica {
    pub(crate) async fn is_ready(&self) -> bool {
        is_ready(self.probes).await
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) {
        let wait = Wait::new(format!("readiness ({})", self.log.display()), PATIENCE);
        while !self.is_ready().await {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{status}: {}", self.log());
            }
            if let Err(error) = wait.pause().await {
                panic!("{error}: {}", self.log());
            }
        }
    }

    pub(crate) async fn leads(&self) -> bool {
        self.metric("headstart_leader").await == 1.0
    }

    /// Waits until its log says this, after what it said `before`; returns how long that took.
    pub(crate) async fn says(&self, before: &str, words: &str) -> Duration {
        let started = std::time::Instant::now();
        let wait = Wait::new(format!("{words:?} in {}", self.log.display()), PATIENCE);
        while !self.log()[before.len()..].contains(words) {
            if let Err(error) = wait.pause().await {
                panic!("{error}: {}", self.log());
            }
        }
        started.elapsed()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The value of one of its metrics, the sum over its labels; 0 if it has none.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let Ok((_, metrics)) = client::plain_get(self.probes, "/metrics").await else {
            return 0.0;
        };
        let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        metrics
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter_map(value)
            .sum()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Its memory, in MiB: `VmRSS`, or `VmHWM` for the most that it ever was.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes / 1024
    }

    /// What `kill` does.
    pub(crate) async fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status()
            .await
            .unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait());
        ended.await.expect("it ends").unwrap()
    }
}

pub(crate) async fn is_ready(probes: u16) -> bool {
    let answer = client::plain_get(probes, "/readyz").await;
    answer.is_ok_and(|(status, _)| status == 200)
}
