//! The cluster that the tests share, and what they ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::MANY_NODES;
use headstart_core::api::well_known::{
    DEPLOYMENT_LABEL, MANAGED_BY_LABEL, MANAGER, PREFETCH_LABEL,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use testbed::control_plane::{AuditEvent, Options};
use testbed::harness::lock::Alone;
use testbed::harness::{self, audit};
pub(crate) use testbed::harness::{is_long, until_at_scale as until};
use testbed::headstart::Local;
use testbed::{ControlPlane, FakeNodes};

/// Slices of the nodes: a node has its number in `slice`, modulo this.
const SLICES: usize = 20;
/// How long finished pods stay: long enough that most are there when the last is done.
pub(crate) const RETAIN: Duration = Duration::from_secs(10);
/// So that a standby takes over within a test's patience. On a starved machine a leader is late to renew it, gives up the
/// writes that are on their way, and asks for them again.
const SHORT_LEASE: &str = "--lease-duration=2s";
/// For tests that count writes, or the time between them.
const LONG_LEASE: &str = "--lease-duration=60s";
const KEEP: &str = "--retain=2h";

/// Nodes of the cluster, every other one of another architecture. What a node costs is the same for each: the short form has
/// as many as show that nothing is done by hand.
pub(crate) fn nodes() -> usize {
    if is_long() { 1000 } else { 400 }
}

/// Nodes of one slice.
pub(crate) fn slice() -> usize {
    nodes() / SLICES
}

/// Nodes that `third=true` selects.
pub(crate) fn third() -> usize {
    nodes() * 3 / 10
}

/// Nodes of one slice that `third=true` selects.
pub(crate) fn third_of_slice() -> usize {
    third() / SLICES
}

/// One test's turn.
pub(crate) type LockedCluster = Alone<TestCluster>;

/// The cluster.
pub(crate) struct TestCluster {
    pub(crate) plane: ControlPlane,
    /// Of the runtime of the test whose turn it is.
    client: Client,
    pub(crate) kubeconfig: PathBuf,
    /// The one that leads, unless a test changed that, and standbys.
    pub(crate) replicas: Vec<Local>,
    /// The flags of the only replica, if it reaches the API server without a proxy.
    flags: Option<Vec<String>>,
}

/// Waits for a turn on the cluster.
pub(crate) async fn cluster() -> LockedCluster {
    let mut turn = MANY_NODES
        .alone(async || TestCluster::start(nodes()).await)
        .await;
    turn.client = turn.plane.client().unwrap();
    turn
}

/// The binary that `cargo test` built: what it does is what counts here, not how fast.
pub(crate) fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_headstart").into()
}

/// A number of `/proc/PID/status`, in MiB.
pub(crate) fn status_mib(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

/// A Deployment without replicas of its own: only prefetch pods are looked at. `nodes` is a selector of nodes.
pub(crate) fn deployment(namespace: &str, name: &str, nodes: &str, images: &[&str]) -> Value {
    let containers: Vec<Value> = images
        .iter()
        .enumerate()
        .map(|(n, image)| json!({ "name": format!("c{n}"), "image": image }))
        .collect();
    let mut object = harness::deployment(namespace, name, json!({ "containers": containers }));
    object["metadata"]["annotations"] = json!({ "headstart.dev/node-selector": nodes });
    object["spec"]["replicas"] = json!(0);
    object
}

impl TestCluster {
    /// A cluster of this many nodes, with a replica that leads.
    pub(crate) async fn start(nodes: usize) -> Self {
        let options = Options {
            audit: true,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await.unwrap();
        let fake = FakeNodes {
            count: nodes,
            ..FakeNodes::default()
        };
        plane.add_fake_nodes(fake, label).await.unwrap();
        let kubeconfig = Local::install(&plane).await.unwrap();
        Self {
            client: plane.client().unwrap(),
            plane,
            kubeconfig,
            replicas: Vec::new(),
            flags: None,
        }
    }

    /// Has one replica whose finished pods stay, for tests that look at what is warm.
    pub(crate) async fn keep_pods(&mut self) {
        self.only(&[]).await;
    }

    /// The same, for tests where another takes over.
    pub(crate) async fn take_turns(&mut self) {
        self.has_one(&[KEEP, SHORT_LEASE]).await;
    }

    /// Starts another replica that takes turns.
    pub(crate) async fn add_replica(&mut self) {
        let own = self.kubeconfig.clone();
        self.start_replica(&own, &[KEEP, SHORT_LEASE]).await;
    }

    /// Has one replica with these flags, whose finished pods stay.
    pub(crate) async fn only(&mut self, flags: &[&str]) {
        self.has_one(&[&[KEEP, LONG_LEASE], flags].concat()).await;
    }

    /// Has one replica whose finished pods go.
    pub(crate) async fn remove_pods(&mut self) {
        self.has_one(&[&retain(), LONG_LEASE]).await;
    }

    /// Ends all replicas and starts one that reaches the API server by this way, whose finished pods stay.
    pub(crate) async fn only_through(&mut self, kubeconfig: &Path, flags: &[&str]) {
        let flags = [&[KEEP, LONG_LEASE], flags].concat();
        self.restart_through(kubeconfig, &flags).await;
    }

    /// Ends all replicas.
    pub(crate) fn end_replicas(&mut self) {
        self.replicas.clear();
        self.flags = None;
    }

    /// Has one replica with just these flags: that of the test before, or a new one.
    async fn has_one(&mut self, flags: &[&str]) {
        let wanted: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let leads = self.replicas.len() == 1 && self.leads().await;
        if !leads || self.flags.as_ref() != Some(&wanted) {
            let own = self.kubeconfig.clone();
            self.restart_through(&own, flags).await;
            self.flags = Some(wanted);
        }
    }

    async fn restart_through(&mut self, kubeconfig: &Path, flags: &[&str]) {
        self.end_replicas();
        // Nobody waits for the lease of one that was killed. There is none before the first.
        let leases = self.api::<Lease>("headstart");
        let _ = leases.delete("headstart", &DeleteParams::default()).await;
        self.start_replica(kubeconfig, flags).await;
        until("the replica to lead", async || self.leads().await).await;
    }

    /// Returns whether the first replica leads.
    async fn leads(&self) -> bool {
        let metrics = self.replicas[0].get("/metrics").await;
        metrics.is_ok_and(|metrics| metrics.contains("headstart_leader 1\n"))
    }

    async fn start_replica(&mut self, kubeconfig: &Path, flags: &[&str]) {
        let replica = Local::start_through(&self.plane, &binary(), kubeconfig, flags).await;
        self.replicas.push(replica.unwrap());
    }

    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// An opted-in namespace.
    pub(crate) async fn namespace(&self, name: &str) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": { PREFETCH_LABEL: "enabled" } },
        });
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let namespace = serde_json::from_value(namespace).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        self.plane.takes_pods(name).await.unwrap();
    }

    /// Creates a Deployment, or replaces what it says.
    pub(crate) async fn apply(&self, object: &Value) {
        let metadata = &object["metadata"];
        let (namespace, name) = (&metadata["namespace"], &metadata["name"]);
        let api: Api<Deployment> = self.api(namespace.as_str().unwrap());
        let params = PatchParams::apply("test").force();
        api.patch(name.as_str().unwrap(), &params, &Patch::Apply(object))
            .await
            .unwrap();
    }

    /// Deletes all Deployments of a namespace, and waits until no prefetch pod is left of them.
    pub(crate) async fn clear(&self, namespace: &str) {
        let api: Api<Deployment> = self.api(namespace);
        // Many may take longer than the API server gives a request.
        until(
            &format!("no Deployment to be left in {namespace}"),
            async || {
                let all = (DeleteParams::default(), ListParams::default());
                api.delete_collection(&all.0, &all.1).await.is_ok()
            },
        )
        .await;
        until(&format!("no pod to be left in {namespace}"), async || {
            self.pods(namespace, None).await.is_empty()
        })
        .await;
    }

    /// Prefetch pods, of one Deployment or of all in the namespace.
    pub(crate) async fn pods(&self, namespace: &str, deployment: Option<&str>) -> Vec<Pod> {
        self.try_pods(namespace, deployment).await.unwrap()
    }

    /// The same, where the API server may be away.
    async fn try_pods(&self, namespace: &str, deployment: Option<&str>) -> kube::Result<Vec<Pod>> {
        let mut selector = format!("{MANAGED_BY_LABEL}={MANAGER}");
        if let Some(name) = deployment {
            selector += &format!(",{DEPLOYMENT_LABEL}={name}");
        }
        let api: Api<Pod> = self.api(namespace);
        let list = api.list(&ListParams::default().labels(&selector)).await;
        Ok(list?.items)
    }

    /// Which images the prefetch pods of a namespace have brought to which node, by Deployment.
    pub(crate) async fn warm(
        &self,
        namespace: &str,
    ) -> BTreeMap<String, BTreeSet<(String, String)>> {
        let mut warm: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
        // While the API server is away, there is nothing to count.
        let pods = self.try_pods(namespace, None).await;
        for pod in pods.unwrap_or_default() {
            if phase(&pod) != "Succeeded" {
                continue;
            }
            let of = warm
                .entry(pod.labels()[DEPLOYMENT_LABEL].clone())
                .or_default();
            for image in images(&pod) {
                of.insert((node(&pod), image));
            }
        }
        warm
    }

    /// Reasons and notes of the events about a Deployment.
    pub(crate) async fn events(&self, namespace: &str, name: &str) -> Vec<(String, String)> {
        let api: Api<Event> = self.api(namespace);
        let about = ListParams::default()
            .fields(&format!("regarding.kind=Deployment,regarding.name={name}"));
        let events = api.list(&about).await.unwrap();
        events
            .into_iter()
            .filter(|event| {
                event.reporting_controller.as_deref() == Some("headstart.dev/headstart")
            })
            .map(|event| {
                (
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default(),
                )
            })
            .collect()
    }

    /// Waits for an event about a Deployment; its note.
    pub(crate) async fn event(&self, namespace: &str, name: &str, reason: &str) -> String {
        let found = async || {
            let events = self.events(namespace, name).await;
            let of_reason = events.into_iter().find(|(found, _)| found == reason);
            of_reason.map(|(_, note)| note)
        };
        let what = format!("{namespace}/{name} to have an event {reason}");
        until(&what, async || found().await.is_some()).await;
        found().await.unwrap()
    }

    /// What headstart wrote to pods of a namespace.
    pub(crate) fn writes(&self, namespace: &str, verb: &str) -> Vec<AuditEvent> {
        audit::requests_for_pods(&self.plane, namespace, verb)
    }

    /// Checks that no pod of a namespace was made twice; how many were made. One that was on its way when its sender or
    /// the API server was killed may be stored and yet not be answered with 201.
    pub(crate) fn made_once(&self, namespace: &str) -> usize {
        let mut made = BTreeSet::new();
        for create in self.writes(namespace, "create") {
            if create.code == 201 {
                let name = create.name;
                assert!(
                    !name.is_empty() && made.insert(name.clone()),
                    "{name} was made twice"
                );
            }
        }
        made.len()
    }

    /// The names of all prefetch pods of a namespace that were asked for, whatever came of it.
    pub(crate) fn asked_for(&self, namespace: &str) -> BTreeSet<String> {
        let creates = self.writes(namespace, "create").into_iter();
        let names = creates.map(|create| create.name);
        names.filter(|name| !name.is_empty()).collect()
    }

    /// How many requests headstart has made in all.
    pub(crate) fn requests(&self) -> usize {
        audit::requests(&self.plane).len()
    }

    /// Makes a node report Ready, or not.
    pub(crate) async fn set_ready(&self, node: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let patch = json!({ "status": { "conditions": [{
            "type": "Ready", "status": status, "reason": "Test", "message": "",
            "lastTransitionTime": k8s_openapi::jiff::Timestamp::now().to_string(),
        }] } });
        let params = PatchParams::default();
        self.nodes()
            .patch_status(node, &params, &Patch::Strategic(patch))
            .await
            .unwrap();
    }

    /// Says of a pod what its kubelet would.
    pub(crate) async fn set_pod_status(&self, pod: &Pod, status: Value) {
        let namespace = pod.namespace().unwrap();
        let patch = Patch::Merge(json!({ "status": status }));
        self.api::<Pod>(&namespace)
            .patch_status(&pod.name_any(), &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
}

/// What tells nodes apart, by number.
pub(crate) fn label(index: usize, node: &mut Node) {
    let labels = node.labels_mut();
    labels.insert("slice".into(), (index % SLICES).to_string());
    labels.insert("third".into(), (index < third()).to_string());
    let architecture = ["amd64", "arm64"][index % 2];
    labels.insert("kubernetes.io/arch".into(), architecture.into());
}

pub(crate) fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

pub(crate) fn node(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.node_name.clone())
        .unwrap_or_default()
}

/// The images that a prefetch pod pulls.
fn images(pod: &Pod) -> Vec<String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.image.as_ref()?.reference.clone())
        .collect()
}

fn retain() -> String {
    format!("--retain={}s", RETAIN.as_secs())
}

/// How many of these were answered so.
pub(crate) fn answered(events: &[AuditEvent], code: u64) -> usize {
    events.iter().filter(|event| event.code == code).count()
}
