//! Creates and deletes prefetch pods: the only room that writes them, with a bound on how many requests are in
//! flight.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::cluster::Place;
use crate::metrics::Metrics;
use crate::self_test::Permit;
use headstart_core::api::well_known::REVISION_LABEL;
use headstart_core::image::ImageSetId;
use headstart_core::limits::{NOTE_BYTES, POD_BYTES, printed, shown};
use headstart_core::pod::{PodSettings, prefetch_pod};
use headstart_core::scheduling::node::PullMethod;
use headstart_core::workload::Workload;

/// How long the API server may take for one write before it counts as failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts of one write that fails in a way that may pass, with a pause between them that doubles from the first.
const ATTEMPTS: u32 = 7;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Results that wait for the worker. A full channel holds creation up, which is right: the worker is behind.
pub const RESULTS: usize = 1024;

/// A pod to create.
#[derive(Debug)]
pub struct Job {
    /// Handed back with the answer.
    pub id: u64,
    /// Likewise.
    pub lane: usize,
    /// The Deployment and the node.
    pub place: Place,
    /// The rollout that it is for.
    pub revision: ImageSetId,
    /// The Deployment with the images that the node lacks.
    pub workload: Arc<Workload>,
    /// How they are pulled.
    pub method: PullMethod,
    /// The UID of a pod by the same name that has to go first: it ended without its images, or too long ago.
    pub replaces: Option<String>,
}

/// What came of creating a pod.
#[derive(Debug)]
pub struct Created {
    /// The job's.
    pub id: u64,
    /// The job's.
    pub lane: usize,
    /// The Deployment and the node.
    pub place: Place,
    /// The UID that it is stored with, `None` if it was there already.
    pub stored: Result<Option<String>, Refusal>,
}

/// Why a write was given up.
#[derive(Debug)]
pub enum Refusal {
    /// Asking again would meet the same answer: quota, a policy, a namespace that is going.
    Definite(String),
    /// It failed in a way that may pass, but did not in all attempts.
    Exhausted(String),
    /// It was no longer wanted.
    Unwanted,
}

/// Creates and deletes prefetch pods.
#[derive(Clone)]
pub struct Puller {
    client: Client,
    /// Creates in flight, over all Deployments.
    creates: Arc<Semaphore>,
    /// Deletes in flight: fewer, because nobody waits for them and the API server takes as long for one.
    deletes: Arc<Semaphore>,
    concurrency: usize,
    settings: Arc<PodSettings>,
    metrics: Arc<Metrics>,
    permit: Permit,
}

impl Puller {
    /// `concurrency` bounds the requests in flight. Without the `permit` no pod is created.
    pub fn new(
        client: Client,
        concurrency: usize,
        settings: Arc<PodSettings>,
        metrics: Arc<Metrics>,
        permit: Permit,
    ) -> Self {
        Self {
            client,
            creates: Arc::new(Semaphore::new(concurrency)),
            deletes: Arc::new(Semaphore::new(concurrency.div_ceil(4))),
            concurrency,
            settings,
            metrics,
            permit,
        }
    }

    /// How many requests may be in flight.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Creates one pod and reports what came of it, whatever that is. Once it is `unwanted` no attempt is begun, but one
    /// that is under way is waited for, so that it is known whether there is a pod; `end` ends that too.
    pub async fn create(
        self,
        job: Job,
        results: mpsc::Sender<Created>,
        unwanted: CancellationToken,
        end: CancellationToken,
    ) {
        let Job {
            id,
            lane,
            place,
            revision,
            workload,
            method,
            replaces,
        } = job;
        let storing = self.store(&place, &revision, &workload, method, replaces, &unwanted);
        // Where the leader changes, the next finds whatever was sent by its label.
        let stored = end.run_until_cancelled(storing).await;
        let stored = stored.unwrap_or(Err(Refusal::Unwanted));
        // Fails only when the worker has ended.
        let created = Created {
            id,
            lane,
            place,
            stored,
        };
        let _ = results.send(created).await;
    }

    async fn store(
        &self,
        place: &Place,
        revision: &ImageSetId,
        workload: &Workload,
        method: PullMethod,
        replaces: Option<String>,
        unwanted: &CancellationToken,
    ) -> Result<Option<String>, Refusal> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &place.key.namespace);
        let mut pod = prefetch_pod(workload, &place.node, method, &self.settings);
        // It is named after the images it pulls, and labelled with the rollout that it is for: the same where the
        // node lacks all of them.
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(REVISION_LABEL.to_owned(), revision.to_string());
        let bytes = serde_json::to_vec(&pod).map_or(0, |json| json.len());
        if bytes > POD_BYTES {
            let what =
                format!("the pod takes {bytes} bytes, and more than {POD_BYTES} are not created");
            return Err(Refusal::Definite(what));
        }
        match unwanted.run_until_cancelled(self.permit.granted()).await {
            None => return Err(Refusal::Unwanted),
            Some(Err(reason)) => return Err(Refusal::Definite(reason.to_owned())),
            Some(Ok(())) => {}
        }
        if let (Some(uid), Some(name)) = (replaces, pod.metadata.name.as_deref()) {
            let delete = || self.delete_one(&api, name, &uid);
            Self::attempt(&self.deletes, unwanted, delete).await?;
        }
        let create = || async {
            match api.create(&PostParams::default(), &pod).await {
                Ok(created) => {
                    self.metrics.pod_created();
                    Ok(created.metadata.uid)
                }
                // The name says which Deployment, node and images: it is the same pod.
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
                Err(error) => Err(error),
            }
        };
        Self::attempt(&self.creates, unwanted, create).await
    }

    /// Deletes pods of one namespace, each only if it is still the one that was meant (by UID).
    pub async fn delete(
        self,
        namespace: String,
        pods: Vec<(String, String)>,
        end: CancellationToken,
    ) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let delete = |(name, uid): (String, String)| {
            let (api, puller, end, namespace) = (&api, &self, &end, &namespace);
            async move {
                let delete = || puller.delete_one(api, &name, &uid);
                let attempts = Self::attempt(&puller.deletes, end, delete);
                if let Some(Err(refusal)) = end.run_until_cancelled(attempts).await {
                    // It is asked for again after a while.
                    warn!(%namespace, pod = %name, ?refusal, "cannot delete a prefetch pod");
                }
            }
        };
        futures::stream::iter(pods)
            .for_each_concurrent(self.concurrency, delete)
            .await;
    }

    async fn delete_one(&self, api: &Api<Pod>, name: &str, uid: &str) -> kube::Result<()> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => {
                self.metrics.pod_deleted();
                Ok(())
            }
            // Gone, or another by the same name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tries a write until it succeeds, is refused for good, is no longer wanted, or has been tried often enough.
    async fn attempt<T, F: Future<Output = kube::Result<T>>>(
        room: &Semaphore,
        unwanted: &CancellationToken,
        mut write: impl FnMut() -> F,
    ) -> Result<T, Refusal> {
        let mut pause = FIRST_PAUSE;
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            let turn = async {
                if attempt > 0 {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                // Never closed. The permit is not held during a pause.
                room.acquire().await
            };
            let Some(permit) = unwanted.run_until_cancelled(turn).await else {
                return Err(Refusal::Unwanted);
            };
            let result = timeout(WRITE_TIMEOUT, write()).await;
            drop(permit);
            last = match result {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(kube::Error::Api(status))) if is_definite(status.code) => {
                    let message = shown(&status.message, NOTE_BYTES);
                    return Err(Refusal::Definite(message.into_owned()));
                }
                Ok(Err(error)) => printed(error, NOTE_BYTES),
                Err(_) => format!("no answer within {} s", WRITE_TIMEOUT.as_secs()),
            };
            debug!(error = %last, attempt, "a write failed; trying again");
        }
        Err(Refusal::Exhausted(last))
    }
}

/// Answers that asking again would not change: all of 4xx but a timeout, a conflict and too many requests.
fn is_definite(code: u16) -> bool {
    (400..500).contains(&code) && !matches!(code, 408 | 409 | 429)
}

/// Returns whether a write failed because its namespace is being deleted, or is gone. A user asked for that, so it is no reason
/// to warn.
pub(crate) fn namespace_is_going(message: &str) -> bool {
    message.contains("because it is being terminated")
        || message.contains("namespaces \"") && message.contains("\" not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_deleted_is_known_by_what_the_api_server_says() {
        for going in [
            r#"pods "prefetch-web" is forbidden: unable to create new content in namespace shop because it is being terminated"#,
            r#"namespaces "shop" not found"#,
            r#"ApiError: namespaces "shop" not found: NotFound (ErrorResponse { .. })"#,
        ] {
            assert!(namespace_is_going(going), "{going}");
        }
        for staying in [
            r#"pods "prefetch-web" is forbidden: exceeded quota: pods"#,
            r#"pods "prefetch-web" not found"#,
        ] {
            assert!(!namespace_is_going(staying), "{staying}");
        }
    }

    #[test]
    fn quota_and_policy_are_definite_and_load_is_not() {
        for code in [400, 403, 404, 422] {
            assert!(is_definite(code), "{code}");
        }
        for code in [408, 409, 429, 500, 503, 504] {
            assert!(!is_definite(code), "{code}");
        }
    }
}
