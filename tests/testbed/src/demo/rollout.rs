//! One rollout, watched: what each node and pod does, when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;

use crate::control_plane::ControlPlane;
use crate::nodes::Nodes;
use crate::process::Wait;
use crate::registry::{RegistryRequest, node_address};
use crate::rollout::{Strategy, deployment, is_complete};

const LIMIT: Duration = Duration::from_secs(600);

/// The Deployment that is rolled out.
pub(super) struct Subject {
    pub(super) namespace: &'static str,
    pub(super) replicas: u16,
    /// The image that it runs before.
    pub(super) first_image: String,
}

/// The measurements of one rollout.
pub(super) struct Rollout {
    pub(super) title: &'static str,
    pub(super) complete: Duration,
    /// Seconds from the write to the node's first request for the image, by node.
    pub(super) pull_starts: BTreeMap<String, f64>,
    pub(super) pods: usize,
    /// Pods that found their image missing and had to wait.
    pub(super) waited: usize,
}

impl Subject {
    /// Brings it to where an update begins: all replicas run the first image.
    pub(super) async fn prepare(&self, control_plane: &ControlPlane) -> Result<()> {
        let object = deployment(
            self.namespace,
            self.replicas,
            Strategy::OneByOne,
            &self.first_image,
        )
        .to_string();
        control_plane
            .kubectl_with_input(&["replace", "--force", "-f", "-"], &object)
            .await?;
        let status = [
            "rollout",
            "status",
            "-n",
            self.namespace,
            "deployment/web",
            "--timeout=180s",
        ];
        control_plane.kubectl(&status).await?;
        Ok(())
    }
}

impl Rollout {
    /// Sets the image and watches until every replica runs it.
    pub(super) async fn observe(
        cluster: &Nodes,
        subject: &Subject,
        title: &'static str,
        repository: &str,
        image: &str,
    ) -> Result<Self> {
        let namespace = subject.namespace;
        let client = cluster.control_plane().client()?;
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let selected = ListParams::default().labels("app=web");
        let (started, written) = (Instant::now(), Timestamp::now());
        let set = format!("app={image}");
        cluster
            .control_plane()
            .kubectl(&["set", "image", "-n", namespace, "deployment/web", &set])
            .await?;

        let mut pull_starts = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let wait = Wait::new("the rollout to complete", LIMIT);
        loop {
            let say = |what: &str| println!("{:6.1} s  {what}", started.elapsed().as_secs_f64());
            for (node, at) in
                first_requests(&cluster.registry().requests().await?, repository, written)?
            {
                if pull_starts.insert(node.clone(), at).is_none() {
                    say(&format!("{node} begins to pull"));
                }
            }
            for pod in pods.list(&selected).await? {
                let Some((name, node)) = running(&pod, image) else {
                    continue;
                };
                if seen.insert(name.clone()) {
                    say(&format!(
                        "{name} runs on {node} ({} of {})",
                        seen.len(),
                        subject.replicas
                    ));
                }
            }
            if is_complete(&deployments.get("web").await?) {
                break;
            }
            wait.pause().await?;
        }
        let complete = started.elapsed();
        let waited = pods_that_waited(
            &Api::namespaced(cluster.control_plane().client()?, namespace),
            image,
            &seen,
        )
        .await?;
        Ok(Self {
            title,
            complete,
            pull_starts,
            pods: seen.len(),
            waited,
        })
    }
}

/// Returns the time at which each node first asked for the repository, in seconds after the write.
fn first_requests(
    requests: &[RegistryRequest],
    repository: &str,
    written: Timestamp,
) -> Result<BTreeMap<String, f64>> {
    let mut first = BTreeMap::new();
    for request in requests
        .iter()
        .filter(|request| request.repository == repository)
    {
        let Some(node) = (1..=9).find(|&node| node_address(node) == request.node) else {
            continue;
        };
        let at: Timestamp = request
            .first
            .parse()
            .with_context(|| format!("the registry's time {:?}", request.first))?;
        let at = at.duration_since(written).as_secs_f64();
        let entry = first.entry(format!("node-{node}")).or_insert(at);
        *entry = entry.min(at);
    }
    Ok(first)
}

/// Name and node of a pod that runs this image.
fn running(pod: &Pod, image: &str) -> Option<(String, String)> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let runs = status.phase.as_deref() == Some("Running");
    let runs = runs
        && spec
            .containers
            .iter()
            .any(|container| container.image.as_deref() == Some(image));
    runs.then(|| Some((pod.metadata.name.clone()?, spec.node_name.clone()?)))
        .flatten()
}

/// Of these pods, how many the kubelet had to pull for: it says so in an event of each.
async fn pods_that_waited(
    events: &Api<Event>,
    image: &str,
    pods: &BTreeSet<String>,
) -> Result<usize> {
    let pulled = ListParams::default().fields("involvedObject.kind=Pod,reason=Pulled");
    let said = |event: &Event| {
        let message = event.message.as_deref().unwrap_or_default();
        let about = event
            .involved_object
            .name
            .as_ref()
            .is_some_and(|name| pods.contains(name));
        (about && message.contains(image)).then(|| message.starts_with("Successfully pulled"))
    };
    let wait = Wait::new(
        "the kubelets' events about every pod's image",
        Duration::from_secs(60),
    );
    loop {
        let answers: Vec<bool> = events
            .list(&pulled)
            .await?
            .iter()
            .filter_map(said)
            .collect();
        if answers.len() >= pods.len() {
            return Ok(answers.into_iter().filter(|pulled| *pulled).count());
        }
        wait.pause().await?;
    }
}

/// Waits for an event of this reason on the Deployment; its note.
pub(super) async fn until_event(
    control_plane: &ControlPlane,
    namespace: &str,
    reason: &str,
) -> Result<String> {
    let events: Api<Event> = Api::namespaced(control_plane.client()?, namespace);
    let selected =
        ListParams::default().fields(&format!("involvedObject.kind=Deployment,reason={reason}"));
    let wait = Wait::new(format!("the event {reason}"), LIMIT);
    loop {
        if let Some(event) = events.list(&selected).await?.items.pop() {
            return Ok(event.message.unwrap_or_default());
        }
        wait.pause().await?;
    }
}
