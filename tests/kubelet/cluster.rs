//! The cluster that the tests share, with their questions to it.

use headstart_core::api::well_known::{
    DEPLOYMENT_LABEL, MANAGED_BY_LABEL, MANAGER, PREFETCH_LABEL,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use testbed::control_plane::Options;
use testbed::harness::{PATIENCE, audit};
pub(crate) use testbed::harness::{deployment, until};
use testbed::headstart::{Installed, Profile};
use testbed::process::Wait;
use testbed::writes::Writes;
use testbed::{ControlPlane, Image, Nodes};
use tokio::sync::Mutex;

pub(crate) use crate::turns::{
    AFFINITY, ANY_USER, BY_CONTAINER, HOLDS_OFF, POD_LABELS, SMALL_IMAGES, alone, alone_until,
    alone_with, shared,
};

/// A short retention, so that a test sees finished pods go; a short drain, as many tests end a replica; and room on each node
/// for the prefetch pods of several tests: a held rollout whose image cannot be pulled would keep the others' waiting.
pub(crate) const FLAGS: [&str; 3] = ["--retain=3s", "--drain=4s", "--pods-per-node=8"];

/// Three real nodes with headstart.
pub(crate) struct Cluster {
    pub(crate) nodes: Nodes,
    pub(crate) headstart: Installed,
    /// The option of headstart's environment that a test has asked for.
    option: Mutex<Option<&'static str>>,
}

/// The names of the nodes.
pub(crate) const EVERY_NODE: [&str; 3] = ["node-1", "node-2", "node-3"];

/// The pod spec of one container that only waits.
pub(crate) fn waiting(image: &str) -> Value {
    json!({ "containers": [{ "name": "app", "image": image }], "terminationGracePeriodSeconds": 0 })
}

/// The same, with the pull secret that [`Cluster::pull_secret`] makes.
pub(crate) fn waiting_with_secret(image: &str) -> Value {
    let mut spec = waiting(image);
    spec["imagePullSecrets"] = json!([{ "name": "registry" }]);
    spec
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let options = Options {
            audit: true,
            ..Options::default()
        };
        let nodes = Nodes::start(3, options).await.unwrap();
        let headstart = Installed::on(&nodes, Profile::Ci, &FLAGS).await.unwrap();
        Self::of(nodes, headstart)
    }

    /// A cluster in which headstart has just been installed.
    pub(crate) fn of(nodes: Nodes, headstart: Installed) -> Self {
        Self {
            nodes,
            headstart,
            option: Mutex::new(None),
        }
    }

    pub(crate) fn control_plane(&self) -> &ControlPlane {
        self.nodes.control_plane()
    }

    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.control_plane().client().unwrap(), namespace)
    }

    /// An image without a shell: one static program that waits, made different by a file.
    pub(crate) async fn push(&self, name: &str) -> String {
        let image = self.image(name);
        self.nodes.registry().push(name, &image).await.unwrap()
    }

    /// As [`Self::push`], to the registry that wants credentials.
    pub(crate) async fn push_private(&self, name: &str) -> String {
        let registry = self.nodes.private_registry();
        registry.push(name, &self.image(name)).await.unwrap()
    }

    /// As [`Self::push`], not yet pushed.
    pub(crate) fn image(&self, name: &str) -> Image {
        let pause = testbed::assets::Assets::nodes().unwrap().pause();
        Image::default()
            .program("/pause", pause)
            .file("/name", name)
            .entrypoint(&["/pause"])
    }

    /// A namespace with this value of the label, gone at the end of the run.
    pub(crate) async fn namespace(&self, name: &str, mode: Option<&str>) {
        self.kubectl(&["create", "namespace", name]).await;
        self.control_plane().takes_pods(name).await.unwrap();
        if let Some(mode) = mode {
            let label = format!("{PREFETCH_LABEL}={mode}");
            self.kubectl(&["label", "namespace", name, &label]).await;
        }
    }

    /// Has headstart run with this option of its environment, and waits until a replica that has it leads, and no other is left. One that
    /// drains still answers reviews, and holds nothing.
    pub(crate) async fn has_option(&self, option: Option<&'static str>) {
        let mut current = self.option.lock().await;
        if *current == option {
            return;
        }
        let name = |option: &'static str| option.split_once('=').map_or(option, |(name, _)| name);
        let unset = current.map(|old| format!("{}-", name(old)));
        let unset = unset.filter(|_| option.map(name) != current.map(name));
        let changes = unset.into_iter().chain(option.map(str::to_owned));
        let changes: Vec<String> = changes.collect();
        let mut arguments = vec!["set", "env", "-n", "headstart", "deployment/headstart"];
        arguments.extend(changes.iter().map(String::as_str));
        self.kubectl(&arguments).await;
        self.headstart
            .wait_until_ready(self.control_plane())
            .await
            .unwrap();
        until("the new leader to take over", async || {
            let leader = self.leader().await;
            let staying = self.replicas().await.into_iter();
            staying
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .any(|pod| pod.metadata.name.as_ref() == Some(&leader))
        })
        .await;
        self.until_none_drains().await;
        *current = option;
    }

    /// The pods of headstart, with those that are ending.
    pub(crate) async fn replicas(&self) -> Vec<Pod> {
        let all = ListParams::default();
        let pods = self.api::<Pod>("headstart").list(&all).await;
        pods.unwrap().items
    }

    /// Waits until no replica is ending.
    pub(crate) async fn until_none_drains(&self) {
        until("the old replicas to be gone", async || {
            let replicas = self.replicas().await;
            let ending = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
            !replicas.iter().any(ending)
        })
        .await;
    }

    /// The replica that leads, by its lease; empty if none does.
    pub(crate) async fn leader(&self) -> String {
        let leases = self.api::<Lease>("headstart");
        let lease = leases.get("headstart").await.unwrap();
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        holder.unwrap_or_default()
    }

    /// Has headstart run so many replicas, and waits for none of them.
    pub(crate) async fn scale_headstart(&self, replicas: usize) {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&[
            "scale",
            "-n",
            "headstart",
            "deployment/headstart",
            &replicas,
        ])
        .await;
    }

    /// Ends every replica of headstart, and waits until none is left.
    pub(crate) async fn stop_headstart(&self) {
        self.scale_headstart(0).await;
        until("headstart to be gone", async || {
            self.replicas().await.is_empty()
        })
        .await;
    }

    /// Allows no pod in a namespace, by the quota `no-pods`.
    pub(crate) async fn allow_no_pods(&self, namespace: &str) {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "namespace": namespace, "name": "no-pods" },
            "spec": { "hard": { "pods": "0" } },
        });
        self.apply(&quota).await;
        until("the quota to be in force", async || {
            let hard = [
                "get",
                "resourcequota",
                "-n",
                namespace,
                "no-pods",
                "-o",
                "jsonpath={.status.hard.pods}",
            ];
            self.kubectl(&hard).await == "0"
        })
        .await;
    }

    /// Sets the limits of a LimitRange.
    pub(crate) async fn limit_range(&self, namespace: &str, limits: Value) {
        let range = json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": { "namespace": namespace, "name": "limits" },
            "spec": { "limits": limits },
        });
        self.apply(&range).await;
    }

    /// A Secret by the name of `registry`, with this password for the private registry.
    pub(crate) async fn pull_secret(&self, namespace: &str, password: &str) {
        let registry = self.nodes.private_registry();
        let server = format!("--docker-server={}", registry.address());
        let username = format!(
            "--docker-username={}",
            registry.credentials().unwrap().username
        );
        let password = format!("--docker-password={password}");
        let create = [
            "create",
            "secret",
            "docker-registry",
            "registry",
            "-n",
            namespace,
        ];
        self.kubectl(&[&create[..], &[&server, &username, &password]].concat())
            .await;
    }

    /// As [`Self::pull_secret`], with the right password.
    pub(crate) async fn right_pull_secret(&self, namespace: &str) {
        let credentials = self.nodes.private_registry().credentials().unwrap();
        self.pull_secret(namespace, &credentials.password).await;
    }

    /// Applies an object as a user would; what kubectl printed.
    pub(crate) async fn apply(&self, object: &Value) -> String {
        self.control_plane()
            .kubectl_with_input(&["apply", "-f", "-"], &object.to_string())
            .await
            .unwrap()
    }

    /// A stream of writes that call headstart, of a Deployment that could run on no node: it is about the calls.
    pub(crate) async fn writes(&self, namespace: &str) -> Writes {
        let mut spec = waiting("registry.example/app:0");
        spec["nodeSelector"] = json!({ "nowhere": "true" });
        let mut object = deployment(namespace, "web", spec);
        object["spec"]["replicas"] = json!(0);
        let object = serde_json::from_value(object).unwrap();
        Writes::start(self.api(namespace), vec![object])
            .await
            .unwrap()
    }

    /// Runs kubectl, which must succeed.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        self.control_plane().kubectl(arguments).await.unwrap()
    }

    /// A Deployment's prefetch pods.
    pub(crate) async fn prefetch_pods(&self, namespace: &str, deployment: &str) -> Vec<Pod> {
        let selector = format!("{MANAGED_BY_LABEL}={MANAGER},{DEPLOYMENT_LABEL}={deployment}");
        self.api::<Pod>(namespace)
            .list(&ListParams::default().labels(&selector))
            .await
            .unwrap()
            .items
    }

    /// Notes of a Deployment's events of one reason.
    pub(crate) async fn events(
        &self,
        namespace: &str,
        deployment: &str,
        reason: &str,
    ) -> Vec<String> {
        let fields = format!(
            "involvedObject.kind=Deployment,involvedObject.name={deployment},reason={reason}"
        );
        let events = self
            .api::<Event>(namespace)
            .list(&ListParams::default().fields(&fields))
            .await
            .unwrap();
        events
            .into_iter()
            .filter_map(|event| event.message)
            .collect()
    }

    /// Returns the kubelets' messages about pulled images of pods whose names begin so.
    pub(crate) async fn pulled(&self, namespace: &str, pods: &str) -> Vec<String> {
        let fields = ListParams::default().fields("involvedObject.kind=Pod,reason=Pulled");
        let events = self.api::<Event>(namespace).list(&fields).await.unwrap();
        let of_pods = events.into_iter().filter(|event| {
            let name = event.involved_object.name.as_deref();
            name.is_some_and(|name| name.starts_with(pods))
        });
        of_pods.filter_map(|event| event.message).collect()
    }

    /// Waits for headstart's word that this many prefetches of a Deployment are done.
    pub(crate) async fn until_prefetched(&self, namespace: &str, deployment: &str, times: usize) {
        let wait = Wait::new(
            format!("{times} prefetches of {namespace}/{deployment}"),
            PATIENCE,
        );
        let prefetched =
            async || self.events(namespace, deployment, "Prefetched").await.len() >= times;
        if let Err(in_vain) = wait.until(prefetched).await {
            let events = self.kubectl(&["get", "events,pods", "-n", namespace]).await;
            panic!("{in_vain}; what there is:\n{events}");
        }
    }

    /// Waits until a Deployment's rollout is complete, as `kubectl rollout status` defines it; a deadline may pass.
    pub(crate) async fn until_complete(&self, namespace: &str, deployment: &str) {
        let what = format!("{namespace}/{deployment} to be rolled out");
        let api = self.api::<Deployment>(namespace);
        until(&what, async || {
            let stored = api.get(deployment).await.unwrap();
            let replicas = stored.spec.unwrap().replicas.unwrap();
            let status = stored.status.unwrap_or_default();
            let counts = [
                status.replicas,
                status.updated_replicas,
                status.available_replicas,
            ];
            status.observed_generation == stored.metadata.generation
                && counts.map(Option::unwrap_or_default) == [replicas; 3]
        })
        .await;
    }

    /// The nodes whose own containerd has an image.
    pub(crate) async fn nodes_with(&self, image: &str) -> Vec<String> {
        let mut found = Vec::new();
        for node in self.nodes.names() {
            if self
                .nodes
                .images_on(&node)
                .await
                .unwrap()
                .iter()
                .any(|name| name == image)
            {
                found.push(node);
            }
        }
        found
    }

    /// Returns the number of pods that headstart has asked the API server to create in a namespace, with any answer.
    pub(crate) fn creates_in(&self, namespace: &str) -> usize {
        audit::requests_for_pods(self.control_plane(), namespace, "create").len()
    }

    /// Returns the number of reviews that the API server has sent to headstart, by its own count.
    pub(crate) async fn webhook_calls(&self) -> f64 {
        self.sum_of_metric("apiserver_admission_webhook_request_total{")
            .await
    }

    /// One of the API server's metrics, summed over headstart's webhooks.
    pub(crate) async fn sum_of_metric(&self, prefix: &str) -> f64 {
        let metrics = self.control_plane().metrics().await.unwrap();
        let ours = metrics
            .lines()
            .filter(|line| line.starts_with(prefix) && line.contains(".headstart.dev\""));
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}
