//! Creates and deletes prefetch pods: the only room that writes them, with a bound on how many requests are in
//! flight. It also looks where a Deployment's own pods are, for plans that depend on it.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::cluster::Place;
use crate::domain::contract::REVISION_LABEL;
use crate::domain::node::PullMethod;
use crate::domain::pod::{PodSettings, prefetch_pod};
use crate::domain::selector::Selector;
use crate::domain::workload::{Key, Revision, Workload};
use crate::metrics::Metrics;

/// How long the API server may take for one write before it counts as failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to list the pods of one Deployment: its rollout waits for nothing, its prefetch for this.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// Lists in flight at most: thousands of Deployments may begin to roll out at once.
const LISTS: usize = 16;
/// How many of its pods are looked through that are about to start: enough for all but huge rollouts, and 2 MB at most.
const MOST_STARTING: u32 = 500;
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
    pub revision: Revision,
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
    /// Lists in flight.
    lists: Arc<Semaphore>,
    concurrency: usize,
    settings: Arc<PodSettings>,
    metrics: Arc<Metrics>,
}

impl Puller {
    /// `concurrency` bounds the requests in flight.
    pub fn new(
        client: Client,
        concurrency: usize,
        settings: Arc<PodSettings>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            creates: Arc::new(Semaphore::new(concurrency)),
            deletes: Arc::new(Semaphore::new(concurrency.div_ceil(4))),
            lists: Arc::new(Semaphore::new(LISTS)),
            concurrency,
            settings,
            metrics,
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
        revision: &Revision,
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

    /// The nodes on which pods of a Deployment are now. Where that cannot be learnt the plan does without.
    pub async fn nodes_running(&self, key: &Key, pods: &Selector) -> BTreeSet<String> {
        self.or_none(key, nodes_running(&self.client, key, pods))
            .await
    }

    /// The nodes on which pods of a Deployment are about to start that bring all its images; of the first
    /// [`MOST_STARTING`] pods. Where that cannot be learnt, none.
    pub async fn nodes_pulling(&self, workload: &Workload, pods: &Selector) -> BTreeSet<String> {
        self.or_none(&workload.key, nodes_pulling(&self.client, workload, pods))
            .await
    }

    /// What a list says, if it is answered in time.
    async fn or_none(
        &self,
        key: &Key,
        nodes: impl Future<Output = kube::Result<BTreeSet<String>>>,
    ) -> BTreeSet<String> {
        let list = async {
            // Never closed.
            let _permit = self.lists.acquire().await;
            nodes.await
        };
        let error = match timeout(LIST_TIMEOUT, list).await {
            Ok(Ok(nodes)) => return nodes,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", LIST_TIMEOUT.as_secs()),
        };
        warn!(deployment = %key, %error, "cannot list the pods; going on without");
        BTreeSet::new()
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
                    return Err(Refusal::Definite(status.message.clone()));
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", WRITE_TIMEOUT.as_secs()),
            };
            debug!(error = %last, attempt, "a write failed; trying again");
        }
        Err(Refusal::Exhausted(last))
    }
}

/// The nodes on which pods of a Deployment are now.
pub(crate) async fn nodes_running(
    client: &Client,
    key: &Key,
    pods: &Selector,
) -> kube::Result<BTreeSet<String>> {
    let live = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = own_pods(client, key, pods, live).await?;
    Ok(pods.filter_map(|pod| pod.spec?.node_name).collect())
}

async fn nodes_pulling(
    client: &Client,
    workload: &Workload,
    pods: &Selector,
) -> kube::Result<BTreeSet<String>> {
    let starting = ListParams::default()
        .fields("status.phase=Pending")
        .limit(MOST_STARTING);
    let pods = own_pods(client, &workload.key, pods, starting).await?;
    Ok(pods
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| {
            pod.spec
                .filter(|spec| workload.is_brought_by(spec))?
                .node_name
        })
        .collect())
}

async fn own_pods(
    client: &Client,
    key: &Key,
    pods: &Selector,
    which: ListParams,
) -> kube::Result<impl Iterator<Item = Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let list = api.list(&which.labels(&pods.to_string())).await?;
    Ok(list.items.into_iter())
}

/// Answers that asking again would not change: all of 4xx but a timeout, a conflict and too many requests.
fn is_definite(code: u16) -> bool {
    (400..500).contains(&code) && !matches!(code, 408 | 409 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{Request, Response};
    use kube::client::Body;

    /// A client of an API server that answers one list of pods, and what that list must ask for.
    fn answering(asked: &'static [&str], pods: serde_json::Value) -> Client {
        let server = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert_eq!(request.uri().path(), "/api/v1/namespaces/shop/pods");
            for part in asked {
                assert!(query.contains(part), "{part} in {query}");
            }
            let list = serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
            async move {
                Ok::<_, std::io::Error>(Response::new(Body::from(list.to_string().into_bytes())))
            }
        });
        Client::new(server, "default")
    }

    #[tokio::test]
    async fn the_nodes_of_a_deployment_are_those_of_its_live_pods() {
        let asked = &[
            "labelSelector=app%3Dweb%2Ctrack+notin+%28a%2Cb%29",
            "status.phase%21%3DFailed",
        ];
        let client = answering(
            asked,
            serde_json::json!([
                {"metadata": {"name": "1"}, "spec": {"containers": [], "nodeName": "n2"}},
                {"metadata": {"name": "2"}, "spec": {"containers": [], "nodeName": "n1"}},
                {"metadata": {"name": "3"}, "spec": {"containers": []}},
                {"metadata": {"name": "4"}, "spec": {"containers": [], "nodeName": "n1"}},
            ]),
        );
        let key = Key {
            namespace: "shop".into(),
            name: "web".into(),
        };
        let selector = "app=web,track notin (a,b)".parse().unwrap();
        let nodes = nodes_running(&client, &key, &selector).await.unwrap();
        assert_eq!(nodes, ["n1", "n2"].map(str::to_owned).into());
    }

    #[tokio::test]
    async fn a_node_pulls_where_a_pod_with_all_the_images_is_about_to_start() {
        let workload = crate::cluster::verdict::tests::wants(&["app:2"]);
        let pod = |node: serde_json::Value, image: &str| {
            serde_json::json!({
                "metadata": {"name": "web"},
                "spec": {"nodeName": node, "containers": [{"name": "a", "image": image}, {"name": "proxy", "image": "mesh:1"}]},
            })
        };
        let mut going = pod("n4".into(), "app:2");
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let pods = serde_json::json!([
            pod("n1".into(), "docker.io/library/app:2"),
            pod("n2".into(), "app:1"),
            pod(serde_json::Value::Null, "app:2"),
            going,
        ]);
        let client = answering(
            &[
                "labelSelector=app%3Dweb",
                "status.phase%3DPending",
                "limit=500",
            ],
            pods,
        );
        let selector = "app=web".parse().unwrap();
        let nodes = nodes_pulling(&client, &workload, &selector).await.unwrap();
        assert_eq!(nodes, ["n1".to_owned()].into());
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
