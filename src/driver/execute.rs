//! Sends one command to the API server, once. Retries are timers of the controller.

use std::sync::Arc;
use std::time::Duration;

use headstart_core::controller::command::{Command, CommandResult, ResumeOutcome, WriteError};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::time::timeout;

use super::count_pods::count_pods;
use super::list_pods::{self, list_nodes};
use super::resume::resume;
use super::write_error::write_error;
use crate::fence::Fence;
use crate::metrics::Metrics;

/// The limit for one write to the API server.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends commands.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) client: Client,
    pub(crate) metrics: Arc<Metrics>,
    /// Open while this replica holds the lease; nothing is written otherwise.
    pub(crate) fence: Fence,
}

impl Executor {
    /// Sends a command and returns its result.
    pub(super) async fn execute(self, command: Command) -> CommandResult {
        match command {
            Command::CreatePod { pod, .. } => {
                CommandResult::PodCreated(self.write(self.create_pod(&pod)).await)
            }
            Command::DeletePod {
                namespace,
                name,
                uid,
                ..
            } => {
                let delete = self.delete_pod(&namespace, &name, &uid);
                CommandResult::PodDeleted(self.write(delete).await)
            }
            Command::ResumeRollout {
                key, hold, only_if, ..
            } => {
                let resume = resume(&self.client, &key, Some(&hold), only_if.as_ref());
                let resumed: Result<ResumeOutcome, WriteError> = self.write(resume).await;
                CommandResult::Resumed(resumed)
            }
            Command::ListPods {
                workload,
                selector,
                filter,
                ..
            } => {
                let nodes = list_nodes(&self.client, &workload, &selector, filter);
                CommandResult::PodsListed(list_pods::with_timeout(nodes).await)
            }
            Command::ReadPullSecrets { key, account, .. } => {
                let secrets = list_pods::pull_secrets(&self.client, &key.namespace, &account);
                let secrets = list_pods::with_timeout(secrets).await;
                // The API server refuses pods of an account that does not exist, so there are no secrets to name.
                CommandResult::PullSecretsRead(secrets.map(Option::unwrap_or_default))
            }
            Command::CountPods { node, .. } => {
                let pods = count_pods(&self.client, &node).await;
                CommandResult::PodsCounted(pods.map_err(|error| error.to_string()))
            }
        }
    }

    /// Sends a write while this replica holds the lease.
    async fn write<T>(
        &self,
        request: impl Future<Output = Result<T, WriteError>>,
    ) -> Result<T, WriteError> {
        if !self.fence.is_open() {
            return Err(WriteError::NotLeader);
        }
        tokio::select! {
            answer = timeout(WRITE_TIMEOUT, request) => answer.unwrap_or_else(|_| {
                let seconds = WRITE_TIMEOUT.as_secs();
                Err(WriteError::Unknown(format!("no answer within {seconds} s")))
            }),
            () = self.fence.closed() => Err(WriteError::LeaseEnded),
        }
    }

    async fn create_pod(&self, pod: &Pod) -> Result<Option<String>, WriteError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match api.create(&PostParams::default(), pod).await {
            Ok(created) => {
                self.metrics.pod_created();
                Ok(created.metadata.uid)
            }
            // The name is made from the Deployment, the node and the images: it is the same pod.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(write_error(error)),
        }
    }

    async fn delete_pod(&self, namespace: &str, name: &str, uid: &str) -> Result<(), WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
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
            // The pod is gone, or a pod with another uid has its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(write_error(error)),
        }
    }
}
