//! The watches that feed the caches.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::WatchParams;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Duration, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::Cluster;
use super::lean::{Lean, whole};
use super::table::{Change, Scope};
use crate::metrics::WatchedResource;
use headstart_core::api::well_known::DEPLOYMENT_LABEL;

/// Objects per page of an initial list, where lists are not streamed: bounds what one response holds in memory.
const PAGE_SIZE: u32 = 200;
/// How long the API server may take to say whether it streams lists.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

impl Cluster {
    /// Starts the watches. They run until the process ends: a watch that fails is begun again, with back-off.
    /// With `namespaces`, only these are looked at.
    pub fn spawn(self: &Arc<Self>, client: &Client, namespaces: Vec<String>, tasks: &TaskTracker) {
        let (cluster, client, more) = (self.clone(), client.clone(), tasks.clone());
        let scopes: Vec<Scope> = if namespaces.is_empty() {
            vec![None]
        } else {
            let named = namespaces.iter().map(|name| Some(Arc::from(name.as_str())));
            named.collect()
        };
        // Nodes, and three watches for each scope; each is counted down when its list is complete.
        self.expect_lists(1 + 3 * scopes.len());
        tasks.spawn(async move {
            let config = config(&client).await;
            for scope in scopes {
                let mut of_scope = config.clone();
                if let Some(name) = &scope {
                    of_scope = of_scope.fields(&format!("metadata.name={name}"));
                }
                let api = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
                let events = watcher::watcher(api, of_scope);
                let feed = Feed::new(&cluster, WatchedResource::Namespaces, scope.clone());
                more.spawn(feed.follow(events, Cluster::on_namespace));

                let api = namespaced::<Lean<Deployment>>(&client, &scope);
                let events = watcher::watcher(api, config.clone());
                let feed = Feed::new(&cluster, WatchedResource::Deployments, scope.clone());
                more.spawn(feed.follow(events.map_ok(whole), Cluster::on_deployment));

                let api = namespaced::<Lean<Pod>>(&client, &scope);
                let events = watcher::watcher(api, config.clone().labels(DEPLOYMENT_LABEL));
                let feed = Feed::new(&cluster, WatchedResource::Pods, scope);
                more.spawn(feed.follow(events.map_ok(whole), Cluster::on_pod));
            }
            let events = watcher::watcher(Api::<Lean<Node>>::all(client), config);
            let feed = Feed::new(&cluster, WatchedResource::Nodes, None);
            more.spawn(feed.follow(events.map_ok(whole), Cluster::on_node));
        });
    }
}

fn namespaced<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Streams lists where the API server can: object by object, where a page of 200 Deployments takes ten megabytes to
/// read. On by default since 1.34, and not known to all servers before.
async fn config(client: &Client) -> watcher::Config {
    let paged = watcher::Config::default().page_size(PAGE_SIZE);
    match timeout(PROBE_TIMEOUT, streams_lists::<Namespace>(client)).await {
        Ok(true) => paged.streaming_lists(),
        Ok(false) | Err(_) => {
            info!("the API server does not stream lists; reading them in pages");
            paged
        }
    }
}

async fn streams_lists<K>(client: &Client) -> bool
where
    K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = Api::<PartialObjectMeta<K>>::all(client.clone());
    // One that is never there: only the answer counts.
    let params = WatchParams::streaming_lists()
        .fields("metadata.name=headstart.dev")
        .timeout(1);
    match api.watch_metadata(&params, "0").await {
        // A server that does not know the parameter ignores it, and sends no bookmark at once.
        Ok(events) => {
            let mut events = std::pin::pin!(events);
            events.next().await.is_some_and(|event| event.is_ok())
        }
        Err(error) => {
            debug!(%error, "streaming lists were refused");
            false
        }
    }
}

/// One watch on its way into the caches.
struct Feed {
    cluster: Arc<Cluster>,
    what: WatchedResource,
    scope: Scope,
}

impl Feed {
    fn new(cluster: &Arc<Cluster>, what: WatchedResource, scope: Scope) -> Self {
        let cluster = cluster.clone();
        Self {
            cluster,
            what,
            scope,
        }
    }

    async fn follow<T: Debug + Send + 'static>(
        self,
        events: impl Stream<Item = watcher::Result<Event<T>>>,
        on_change: fn(&Cluster, &Scope, Change<T>),
    ) {
        let Self {
            cluster,
            what,
            scope,
        } = self;
        let mut events = std::pin::pin!(events.default_backoff());
        let mut complete = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let change = event.into();
                    let ends = matches!(change, Change::End);
                    on_change(&cluster, &scope, change);
                    cluster.metrics.watch_event(what);
                    if ends && !complete {
                        complete = true;
                        cluster.list_completed();
                    }
                }
                Err(error) => {
                    cluster.metrics.watch_failed(what);
                    warn!(?what, %error, "watch failed; it is begun again after a pause");
                }
            }
        }
    }
}
