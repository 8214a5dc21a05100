//! A steady stream of writes of Deployments, as people who deploy all the time would make.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::installation::SHOP;

/// How many Deployments take turns.
pub(crate) const DEPLOYMENTS: usize = 5;
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(50);

/// Writes until it is stopped.
pub(crate) struct Writes {
    stop: CancellationToken,
    task: JoinHandle<Summary>,
}

/// What came of the writes.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) writes: usize,
    pub(crate) slowest: Duration,
}

impl Writes {
    pub(crate) async fn start(client: Client) -> Self {
        let deployments: Api<Deployment> = Api::namespaced(client, SHOP);
        for index in 0..DEPLOYMENTS {
            let deployment = deployment(&format!("web-{index}"), "app:0");
            deployments
                .create(&PostParams::default(), &deployment)
                .await
                .unwrap();
        }
        let stop = CancellationToken::new();
        let task = tokio::spawn(write(deployments, stop.clone()));
        Self { stop, task }
    }

    /// Panics if a write failed.
    pub(crate) async fn stop(self) -> Summary {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

async fn write(deployments: Api<Deployment>, stop: CancellationToken) -> Summary {
    let mut summary = Summary {
        writes: 0,
        slowest: Duration::ZERO,
    };
    while !stop.is_cancelled() {
        let name = format!("web-{}", summary.writes % DEPLOYMENTS);
        let image = format!("app:{}", summary.writes + 1);
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}});
        let begun = Instant::now();
        deployments
            .patch(&name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .unwrap();
        summary.writes += 1;
        summary.slowest = summary.slowest.max(begun.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    summary
}

/// One that runs nowhere, so that nothing but the write is measured.
pub(crate) fn deployment(name: &str, image: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        },
    }))
    .unwrap()
}
