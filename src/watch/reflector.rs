//! Runs the watches, parses their objects and applies them to the store.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};
use headstart_core::api::mode::namespace_mode;
use headstart_core::api::well_known::DEPLOYMENT_LABEL;
use headstart_core::store::{
    Change, NodeName, NodeRecord, ObservedPod, PodId, Scope, Store, Update,
};
use headstart_core::workload::Workload;
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

use super::SharedStore;
use super::slim::{Slim, into_object};
use crate::metrics::{Metrics, WatchedResource};

/// Objects per page of an initial list, where lists are not streamed: bounds what one response holds in memory.
const PAGE_SIZE: u32 = 200;
/// How long the API server may take to say whether it streams lists.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The watches of this replica.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) client: Client,
    pub(crate) store: Arc<SharedStore>,
    pub(crate) metrics: Arc<Metrics>,
    /// Only these are watched; none for all.
    pub(crate) namespaces: Vec<String>,
    /// headstart's own image, which prefetch pods run.
    pub(crate) noop_image: String,
    /// What nodes report of their images is trusted.
    pub(crate) node_images: bool,
}

impl Watches {
    /// Starts the watches. They run until the process ends: a watch that fails begins again, with back-off.
    pub(crate) fn spawn(self, tasks: &TaskTracker) {
        let scopes: Vec<Scope> = if self.namespaces.is_empty() {
            vec![None]
        } else {
            let names = self.namespaces.iter();
            names.map(|name| Some(Arc::from(name.as_str()))).collect()
        };
        // Nodes, and three watches for each scope; each is counted down when its list is complete.
        self.store.expect_lists(1 + 3 * scopes.len());
        let more = tasks.clone();
        tasks.spawn(async move {
            let config = config(&self.client).await;
            for scope in scopes {
                self.spawn_namespaces(&config, &scope, &more);
                self.spawn_deployments(&config, &scope, &more);
                self.spawn_pods(&config, &scope, &more);
            }
            self.spawn_nodes(config, &more);
        });
    }

    fn spawn_namespaces(&self, config: &watcher::Config, scope: &Scope, tasks: &TaskTracker) {
        let config = match scope {
            Some(name) => config.clone().fields(&format!("metadata.name={name}")),
            None => config.clone(),
        };
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        let events = watcher::watcher(api, config);
        let parse = |namespace: PartialObjectMeta<Namespace>| {
            let name = namespace.metadata.name?;
            let mode = namespace_mode(namespace.metadata.labels.as_ref());
            let mode = mode.unwrap_or_else(|error| {
                warn!(namespace = %name, %error, "namespace is not enabled");
                None
            });
            Some((name, mode))
        };
        let reflector = self.reflector(WatchedResource::Namespaces, scope);
        tasks.spawn(reflector.run(events, parse, Store::apply_namespace));
    }

    fn spawn_deployments(&self, config: &watcher::Config, scope: &Scope, tasks: &TaskTracker) {
        let api = namespaced::<Slim<Deployment>>(&self.client, scope);
        let events = watcher::watcher(api, config.clone()).map_ok(into_object);
        let parse = |deployment: Deployment| {
            let workload = Workload::from_deployment(&deployment)?;
            Some((workload.key.clone(), workload))
        };
        let reflector = self.reflector(WatchedResource::Deployments, scope);
        tasks.spawn(reflector.run(events, parse, Store::apply_deployment));
    }

    fn spawn_pods(&self, config: &watcher::Config, scope: &Scope, tasks: &TaskTracker) {
        let api = namespaced::<Slim<Pod>>(&self.client, scope);
        let config = config.clone().labels(DEPLOYMENT_LABEL);
        let events = watcher::watcher(api, config).map_ok(into_object);
        let noop_image = self.noop_image.clone();
        let parse =
            move |pod: Pod| Some((PodId::of(&pod)?, ObservedPod::from_pod(&pod, &noop_image)));
        let reflector = self.reflector(WatchedResource::Pods, scope);
        tasks.spawn(reflector.run(events, parse, Store::apply_pod));
    }

    fn spawn_nodes(&self, config: watcher::Config, tasks: &TaskTracker) {
        let api = Api::<Slim<Node>>::all(self.client.clone());
        let events = watcher::watcher(api, config).map_ok(into_object);
        let node_images = self.node_images;
        let parse = move |node: Node| {
            let record = NodeRecord::from_node(&node, node_images)?;
            Some((NodeName::from(record.name()), record))
        };
        let reflector = self.reflector(WatchedResource::Nodes, &None);
        tasks.spawn(reflector.run(events, parse, Store::apply_node));
    }

    fn reflector(&self, what: WatchedResource, scope: &Scope) -> Reflector {
        Reflector {
            store: self.store.clone(),
            metrics: self.metrics.clone(),
            what,
            scope: scope.clone(),
        }
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

/// Applies the events of one watch to the store.
struct Reflector {
    store: Arc<SharedStore>,
    metrics: Arc<Metrics>,
    what: WatchedResource,
    scope: Scope,
}

impl Reflector {
    /// Runs until the stream ends. `parse` reduces an object before the store is locked; it returns `None` for one that is not
    /// looked at.
    async fn run<T, K, V>(
        self,
        events: impl Stream<Item = watcher::Result<Event<T>>>,
        parse: impl Fn(T) -> Option<(K, V)>,
        apply: fn(&mut Store, &Scope, Update<K, V>) -> Vec<Change>,
    ) where
        T: Debug + Send + 'static,
    {
        let what = self.what;
        let mut events = std::pin::pin!(events.default_backoff());
        let mut complete = false;
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    self.metrics.watch_failed(what);
                    warn!(?what, %error, "watch failed; it begins again after a pause");
                    continue;
                }
            };
            self.metrics.watch_event(what);
            let update = match event {
                Event::Init => Some(Update::ListStarted),
                Event::InitApply(object) | Event::Apply(object) => {
                    parse(object).map(|(key, value)| Update::Applied(key, value))
                }
                Event::Delete(object) => parse(object).map(|(key, _)| Update::Deleted(key)),
                Event::InitDone => Some(Update::ListFinished),
            };
            let Some(update) = update else { continue };
            let ends_list = matches!(update, Update::ListFinished);
            self.store.update(|store| apply(store, &self.scope, update));
            if ends_list && !complete {
                complete = true;
                self.store.list_completed();
            }
        }
    }
}
