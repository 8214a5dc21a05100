//! This release beside the previous one, whose binary and manifests are built from the repository's history: upgrades, rollbacks,
//! and replicas of both at the same time.

mod manifests;
mod mixed;
mod upgrade;

use std::collections::BTreeMap;
use std::process::Command;

use headstart_core::api::hold_mark::{HoldMark, is_mark};
use headstart_core::api::well_known::{DEPLOYMENT_LABEL, PREFETCH_LABEL};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use testbed::harness;
use testbed::headstart::{Availability, Local, PreviousRelease};
use testbed::progress;

use crate::admission::certificates::served;
use crate::admission::installation::{Installation, OWN, until};
use crate::admission::policy::client_of;
use crate::admission::replica::Replica;

/// The namespace of the Deployments. Its label asks for holds.
const NAMESPACE: &str = "skew";
/// A Deployment that nothing happens to.
const BYSTANDER: &str = "bystander";
/// Nodes of the cluster.
const NODES: usize = 2;

/// The release of a binary or of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    Previous,
    This,
}

/// The previous release; `None`, with the reason printed, where the checkout has no history.
async fn previous_release() -> Option<PreviousRelease> {
    let built = tokio::task::spawn_blocking(PreviousRelease::build).await;
    match built.unwrap().unwrap() {
        Availability::Built(release) => Some(release),
        Availability::NoHistory(reason) => {
            progress::say(&format!(
                "SKIPPED, nothing beside the previous release was tested: {reason}"
            ));
            None
        }
    }
}

/// A control plane in which either release is installed.
struct Skew {
    installation: Installation,
    previous: PreviousRelease,
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    /// By the account that the policies of this release bound and those of the previous one do not.
    by_release: Api<Deployment>,
}

impl Skew {
    async fn new(previous: PreviousRelease) -> Self {
        let installation = Installation::new().await;
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": NAMESPACE, "labels": { PREFETCH_LABEL: "hold" } },
        });
        installation.apply(&namespace).await;
        installation.cluster.takes_pods(NAMESPACE).await.unwrap();
        let delete = ["delete", "deployments", "--all", "-n", NAMESPACE];
        installation.cluster.kubectl(&delete).await.unwrap();
        let client = installation.client.clone();
        let release = client_of(&installation, OWN, "headstart-release").await;
        let skew = Self {
            previous,
            deployments: Api::namespaced(client.clone(), NAMESPACE),
            pods: Api::namespaced(client, NAMESPACE),
            by_release: Api::namespaced(release, NAMESPACE),
            installation,
        };
        let none = json!({ "metadata": { "labels": { PREFETCH_LABEL: "disabled" } } });
        skew.create(BYSTANDER, "app:1").await;
        skew.patch(BYSTANDER, none).await;
        skew
    }

    /// Applies the manifests of a release, has the API server call this port by its webhook configurations, and waits until its
    /// policies are in force. As everywhere, `kubectl apply` leaves what only the other release has.
    async fn apply(&self, release: Release, port: u16) {
        let cluster = self.installation.cluster;
        let applied = match release {
            Release::Previous => Local::register_previous(cluster, &self.previous, port).await,
            Release::This => Local::register(cluster, port).await,
        };
        applied.unwrap();
        let pause = Patch::Merge(json!({ "spec": { "paused": true } }));
        let dry_run = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        until("the policies to be in force", async || {
            let tried = self.by_release.patch(BYSTANDER, &dry_run, &pause).await;
            match (release, tried) {
                (Release::Previous, tried) => tried.is_ok(),
                (Release::This, tried) => {
                    tried.is_err_and(|error| error.to_string().contains("headstart-only-resumes"))
                }
            }
        })
        .await;
    }

    /// The same, and waits until writes are held by what answers at this port: a gate opens when it has seen a leader's renewal.
    async fn register(&self, release: Release, port: u16) {
        self.apply(release, port).await;
        served(&self.installation, port).await;
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let probe = deployment("probe", "app:1");
        until("writes to be held", async || {
            is_held(&self.deployments.create(&dry_run, &probe).await.unwrap())
        })
        .await;
    }

    /// Starts a replica, and waits until it is ready and has found all policies in force. Its no-op is of its own tag.
    async fn replica(&self, release: Release) -> Replica {
        let (binary, name, tag) = match release {
            Release::Previous => (self.previous.binary(), "previous", "v1"),
            Release::This => (env!("CARGO_BIN_EXE_headstart").into(), "this", "v2"),
        };
        // The replica is a process here. A pod stands for it, which it tries to delete to see that it may not.
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": OWN },
            "spec": { "nodeName": "fake-0",
                "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{ "name": "headstart", "image": "a:1", "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }] },
        });
        self.installation.apply(&pod).await;
        let noop = format!("--noop-image=headstart.dev/headstart:{tag}");
        let flags = [
            "--require-policies",
            &format!("--pod-name={name}"),
            &noop,
            "--drain=1s",
            // A busy machine does not lose it. A leader that stops hands it over at once.
            "--lease-duration=20s",
            "--pods-per-node=25",
        ];
        let replica = self
            .installation
            .replica_by(Command::new(binary), name, &flags);
        replica.ready().await;
        replica
            .says("", "the API server enforces headstart's policies")
            .await;
        replica
    }

    /// Creates a Deployment with this image. Returns it as it is stored.
    async fn create(&self, name: &str, image: &str) -> Deployment {
        let (params, object) = (PostParams::default(), deployment(name, image));
        self.deployments.create(&params, &object).await.unwrap()
    }

    /// Changes its image. Returns it as it is stored.
    async fn update(&self, name: &str, image: &str) -> Deployment {
        let containers = json!([{ "name": "app", "image": image }]);
        let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        self.patch(name, patch).await
    }

    async fn patch(&self, name: &str, patch: Value) -> Deployment {
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        self.deployments.patch(name, &params, &patch).await.unwrap()
    }

    /// Waits until its hold is over, nothing is left of the marks, and its rollout is complete.
    async fn goes_on(&self, name: &str) -> Deployment {
        until(&format!("{name} to go on and be complete"), async || {
            let stored = self.deployments.get(name).await.unwrap();
            HoldMark::read(&stored).is_none() && is_complete(&stored)
        })
        .await;
        let stored = self.deployments.get(name).await.unwrap();
        assert_eq!(marks(&stored), Vec::<&str>::new(), "{name}");
        stored
    }

    /// The UIDs of the prefetch pods of a Deployment, with the image of their no-op.
    async fn prefetch_pods(&self, name: &str) -> BTreeMap<String, String> {
        let of_this = ListParams::default().labels(&format!("{DEPLOYMENT_LABEL}={name}"));
        let pods = self.pods.list(&of_this).await.unwrap();
        let all = pods.into_iter().map(|pod| {
            let image = pod.spec.as_ref().unwrap().containers[0].image.clone();
            (pod.uid().unwrap(), image.unwrap_or_default())
        });
        all.collect()
    }

    /// Leaves nothing that another test would see.
    async fn end(self) {
        self.apply(Release::This, 1).await;
        let all = ListParams::default();
        let now = DeleteParams::default();
        self.deployments
            .delete_collection(&now, &all)
            .await
            .unwrap();
        let own: Api<Pod> = Api::namespaced(self.installation.client.clone(), OWN);
        own.delete_collection(&now, &all).await.unwrap();
    }
}

fn deployment(name: &str, image: &str) -> Deployment {
    let pod = json!({ "containers": [{ "name": "app", "image": image }] });
    serde_json::from_value(harness::deployment(NAMESPACE, name, pod)).unwrap()
}

async fn leads(replica: &Replica) {
    until("the replica to lead", async || replica.leads().await).await;
}

fn is_held(deployment: &Deployment) -> bool {
    HoldMark::read(deployment).is_some_and(|mark| mark.paused)
}

/// The keys of all marks of holds, of whichever version.
fn marks(deployment: &Deployment) -> Vec<&str> {
    let labels = deployment.labels().keys();
    let all = labels.chain(deployment.annotations().keys());
    all.map(String::as_str).filter(|key| is_mark(key)).collect()
}

fn is_complete(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
    })
}
