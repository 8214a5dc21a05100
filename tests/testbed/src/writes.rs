//! A steady stream of writes of Deployments, as people who deploy all the time would make.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinHandle;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(50);

/// Writes until it is stopped.
#[derive(Debug)]
pub struct Writes {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Vec<Write>>>,
}

/// One that the API server has stored.
#[derive(Debug)]
pub struct Write {
    /// The time at which it was sent.
    pub begun: Instant,
    /// Its duration.
    pub took: Duration,
}

impl Writes {
    /// Creates these Deployments, and changes the image of the container `app` of one after another.
    ///
    /// # Errors
    /// Fails if one cannot be created.
    pub async fn start(api: Api<Deployment>, deployments: Vec<Deployment>) -> Result<Self> {
        let mut names = Vec::new();
        for deployment in deployments {
            api.create(&PostParams::default(), &deployment).await?;
            names.push(deployment.metadata.name.context("it has no name")?);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(api, names, stop.clone()));
        Ok(Self { stop, task })
    }

    /// Ends the stream; returns the writes.
    ///
    /// # Errors
    /// Fails if a write failed.
    pub async fn stop(self) -> Result<Vec<Write>> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

async fn write(
    api: Api<Deployment>,
    names: Vec<String>,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for name in names.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let image = format!("registry.example/app:{}", writes.len() + 1);
        let containers = json!([{ "name": "app", "image": image }]);
        let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        let begun = Instant::now();
        api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .with_context(|| format!("write {} of {name}", writes.len() + 1))?;
        let took = begun.elapsed();
        writes.push(Write { begun, took });
        tokio::time::sleep(PAUSE).await;
    }
    Ok(writes)
}

/// Returns the duration of the slowest of them.
pub fn slowest(writes: &[Write]) -> Duration {
    let took = writes.iter().map(|write| write.took);
    took.max().unwrap_or_default()
}
