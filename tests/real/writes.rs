//! A steady stream of writes of a Deployment, each of which calls headstart.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, deployment, waiting};

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(100);

/// Writes until it is stopped.
pub(crate) struct Writes {
    stop: CancellationToken,
    task: JoinHandle<Vec<Write>>,
}

/// One that the API server has stored.
pub(crate) struct Write {
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
}

impl Writes {
    pub(crate) async fn start(cluster: &Cluster, namespace: &str) -> Self {
        // On no node: it is about the calls.
        let mut spec = waiting("registry.example/app:0");
        spec["nodeSelector"] = json!({ "nowhere": "true" });
        let mut object = deployment(namespace, "web", spec);
        object["spec"]["replicas"] = json!(0);
        cluster.apply(&object).await;
        let stop = CancellationToken::new();
        let task = tokio::spawn(write(cluster.api(namespace), stop.clone()));
        Self { stop, task }
    }

    /// Panics if a write failed.
    pub(crate) async fn stop(self) -> Vec<Write> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Changes the image again and again.
async fn write(deployments: Api<Deployment>, stop: CancellationToken) -> Vec<Write> {
    let mut writes = Vec::new();
    while !stop.is_cancelled() {
        let image = format!("registry.example/app:{}", writes.len() + 1);
        let containers = json!([{ "name": "app", "image": image }]);
        let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        let begun = Instant::now();
        deployments
            .patch("web", &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .unwrap();
        let took = begun.elapsed();
        writes.push(Write { begun, took });
        tokio::time::sleep(PAUSE).await;
    }
    writes
}
