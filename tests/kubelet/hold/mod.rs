//! Rollouts that wait for their images, on real nodes and with the real Deployment controller.

mod absent_nodes;
mod admission;
mod answers;
mod endings;
pub(crate) mod last_replica;
mod outages;
mod writes;

use headstart_core::api::hold_mark::HoldMark;
use headstart_core::api::well_known::{HELD_LABEL, HELD_UNTIL};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::cluster::{Cluster, deployment, until, waiting};

/// An image that no node can pull, and that each node tries again and again. It holds a rollout for as long as a test
/// needs.
const UNREACHABLE: &str = "127.0.0.1:1/app:1";

/// A Deployment in a namespace of its own, where rollouts are held.
struct Web<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl<'a> Web<'a> {
    async fn new(cluster: &'a Cluster, namespace: &'a str) -> Self {
        cluster.namespace(namespace, Some("hold")).await;
        Self { cluster, namespace }
    }

    /// The manifest with this image.
    fn manifest(&self, image: &str) -> Value {
        deployment(self.namespace, "web", waiting(image))
    }

    /// The manifest with an annotation of headstart's.
    fn annotated(&self, image: &str, name: &str, value: &str) -> Value {
        let mut manifest = self.manifest(image);
        manifest["metadata"]["annotations"] = json!({ format!("headstart.dev/{name}"): value });
        manifest
    }

    /// Brings it to where an update would be held: rolled out, with this image.
    async fn rolled_out(&self, image: &str) {
        self.cluster.apply(&self.manifest(image)).await;
        self.until_complete().await;
    }

    async fn set_image(&self, image: &str) -> String {
        let set = format!("app={image}");
        self.kubectl(&["set", "image", "deployment/web", &set])
            .await
    }

    /// Runs kubectl in the namespace, which must succeed.
    async fn kubectl(&self, arguments: &[&str]) -> String {
        let arguments = [arguments, &["-n", self.namespace]].concat();
        self.cluster.kubectl(&arguments).await
    }

    async fn stored(&self) -> Deployment {
        let api: Api<Deployment> = self.cluster.api(self.namespace);
        api.get("web").await.unwrap()
    }

    async fn hold(&self) -> Option<HoldMark> {
        HoldMark::read(&self.stored().await)
    }

    async fn is_held(&self) -> bool {
        self.hold().await.is_some_and(|held| held.paused)
    }

    async fn is_paused(&self) -> bool {
        let spec = self.stored().await.spec.unwrap();
        spec.paused.unwrap_or(false)
    }

    /// Asserts that nothing is left of a hold, nor of a pause.
    async fn assert_free(&self) {
        let stored = self.stored().await;
        assert_eq!(HoldMark::read(&stored), None);
        assert!(!stored.spec.unwrap().paused.unwrap_or(false));
        let annotations = stored.metadata.annotations.unwrap_or_default();
        assert!(!annotations.contains_key(HELD_UNTIL));
        assert!(
            !stored
                .metadata
                .labels
                .unwrap_or_default()
                .contains_key(HELD_LABEL)
        );
    }

    async fn until_complete(&self) {
        self.cluster.until_complete(self.namespace, "web").await;
    }

    /// The notes of its events of one reason.
    async fn said(&self, reason: &str) -> Vec<String> {
        self.cluster.events(self.namespace, "web", reason).await
    }

    /// Waits for the word that a rollout goes on, or has to stay; the newest of at least so many.
    async fn until_said(&self, reason: &str, times: usize) -> Vec<String> {
        until(&format!("{reason} in {}", self.namespace), async || {
            self.said(reason).await.len() >= times
        })
        .await;
        self.said(reason).await
    }

    /// Waits until it goes on, and is told why in these words.
    async fn until_resumed(&self, why: &str) {
        let notes = self.until_said("RolloutResumed", 1).await;
        assert!(notes.iter().any(|note| note.contains(why)), "{notes:?}");
        until("the marks of the hold to be gone", async || {
            self.hold().await.is_none()
        })
        .await;
    }

    /// Its own pods.
    async fn pods(&self) -> Vec<Pod> {
        let api: Api<Pod> = self.cluster.api(self.namespace);
        let own = ListParams::default().labels("app=web");
        api.list(&own).await.unwrap().items
    }

    /// The images of its ReplicaSets.
    async fn replica_sets(&self) -> Vec<String> {
        let api: Api<ReplicaSet> = self.cluster.api(self.namespace);
        let sets = api.list(&ListParams::default()).await.unwrap();
        let template = |set: ReplicaSet| set.spec?.template?.spec;
        let images = sets.items.into_iter().filter_map(template);
        images
            .filter_map(|pod| pod.containers[0].image.clone())
            .collect()
    }

    async fn delete(self) {
        self.cluster
            .kubectl(&["delete", "namespace", self.namespace, "--wait=false"])
            .await;
    }
}
