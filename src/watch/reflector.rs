//! Runs the watches, parses their objects and applies them to the store.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};
use headstart_core::api::mode::namespace_mode;
use headstart_core::api::well_known::DEPLOYMENT_LABEL;
use headstart_core::pod::PodSettings;
use headstart_core::store::{
    Change, NodeName, NodeRecord, ObservedPod, PodId, Scope, Store, Update,
};
use headstart_core::workload::Workload;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use tokio::time::sleep;
use tracing::warn;

use super::SharedStore;
use super::list_method::ListMethod;
use super::optional::{REFUSALS_IN_DOUBT, forbidden_pause, is_forbidden};
use super::slim::{Slim, into_object};
use crate::heartbeat::{Heartbeat, Heartbeats};
use crate::metrics::{Metrics, WatchedResource};
use crate::supervisor::Supervisor;
use crate::watch_stream::{Spread, watch_stream};

/// The watches of this replica.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) client: Client,
    pub(crate) store: Arc<SharedStore>,
    pub(crate) metrics: Arc<Metrics>,
    /// The name of this replica.
    pub(crate) identity: String,
    /// The namespaces that are watched; none for all.
    pub(crate) namespaces: Vec<String>,
    /// The settings of prefetch pods: watches tell them from others by headstart's image, and quotas by their priority.
    pub(crate) pods: Arc<PodSettings>,
    /// True if the images in the nodes' status are trusted.
    pub(crate) node_images: bool,
}

impl Watches {
    /// Starts the watches. They run until the process ends: a failed watch continues after a pause.
    pub(crate) fn spawn(self, supervisor: &Supervisor, heartbeats: &Heartbeats) {
        let scopes: Vec<Scope> = if self.namespaces.is_empty() {
            vec![None]
        } else {
            let names = self.namespaces.iter();
            names.map(|name| Some(Arc::from(name.as_str()))).collect()
        };
        // Nodes, and five watches for each scope. The count falls by one with each complete list.
        self.store.expect_lists(1 + 5 * scopes.len());
        let tasks = Tasks {
            supervisor,
            heartbeats,
            list_method: Arc::default(),
        };
        for scope in scopes {
            self.spawn_namespaces(&scope, &tasks);
            self.spawn_deployments(&scope, &tasks);
            self.spawn_pods(&scope, &tasks);
            self.spawn_limit_ranges(&scope, &tasks);
            self.spawn_quotas(&scope, &tasks);
        }
        self.spawn_nodes(&tasks);
    }

    fn spawn_namespaces(&self, scope: &Scope, tasks: &Tasks<'_>) {
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        let only = scope.clone();
        let events = move |config: watcher::Config| {
            let config = match &only {
                Some(name) => config.fields(&format!("metadata.name={name}")),
                None => config,
            };
            watcher::watcher(api.clone(), config)
        };
        let parse = |namespace: PartialObjectMeta<Namespace>| {
            let name = namespace.metadata.name?;
            let mode = namespace_mode(namespace.metadata.labels.as_ref());
            let mode = mode.unwrap_or_else(|error| {
                warn!(namespace = %name, %error, "namespace is not enabled");
                None
            });
            Some((name, mode))
        };
        let reflector = self.reflector(WatchedResource::Namespaces, scope, tasks);
        tasks.spawn(reflector, events, parse, Store::apply_namespace);
    }

    fn spawn_deployments(&self, scope: &Scope, tasks: &Tasks<'_>) {
        let api = namespaced::<Slim<Deployment>>(&self.client, scope);
        let events = move |config| watcher::watcher(api.clone(), config).map_ok(into_object);
        let parse = |deployment: Deployment| {
            let workload = Workload::from_deployment(&deployment)?;
            Some((workload.key.clone(), workload))
        };
        let reflector = self.reflector(WatchedResource::Deployments, scope, tasks);
        tasks.spawn(reflector, events, parse, Store::apply_deployment);
    }

    fn spawn_pods(&self, scope: &Scope, tasks: &Tasks<'_>) {
        let api = namespaced::<Slim<Pod>>(&self.client, scope);
        let events = move |config: watcher::Config| {
            watcher::watcher(api.clone(), config.labels(DEPLOYMENT_LABEL)).map_ok(into_object)
        };
        let noop_image = self.pods.noop_image.clone();
        let parse =
            move |pod: Pod| Some((PodId::of(&pod)?, ObservedPod::from_pod(&pod, &noop_image)));
        let reflector = self.reflector(WatchedResource::Pods, scope, tasks);
        tasks.spawn(reflector, events, parse, Store::apply_pod);
    }

    fn spawn_nodes(&self, tasks: &Tasks<'_>) {
        let api = Api::<Slim<Node>>::all(self.client.clone());
        let events = move |config| watcher::watcher(api.clone(), config).map_ok(into_object);
        let node_images = self.node_images;
        let parse = move |node: Node| {
            let record = NodeRecord::from_node(&node, node_images)?;
            Some((NodeName::from(record.name()), record))
        };
        let reflector = self.reflector(WatchedResource::Nodes, &None, tasks);
        tasks.spawn(reflector, events, parse, Store::apply_node);
    }

    pub(super) fn reflector(
        &self,
        what: WatchedResource,
        scope: &Scope,
        tasks: &Tasks<'_>,
    ) -> Reflector {
        Reflector {
            client: self.client.clone(),
            list_method: tasks.list_method.clone(),
            store: self.store.clone(),
            metrics: self.metrics.clone(),
            identity: self.identity.clone(),
            what,
            scope: scope.clone(),
            is_optional: false,
        }
    }
}

/// The arguments for starting the watches.
pub(super) struct Tasks<'a> {
    supervisor: &'a Supervisor,
    heartbeats: &'a Heartbeats,
    list_method: Arc<ListMethod>,
}

impl Tasks<'_> {
    /// Starts a reflector under the name of its watch.
    pub(super) fn spawn<S, T, K, V>(
        &self,
        reflector: Reflector,
        events: impl Fn(watcher::Config) -> S + Send + Sync + 'static,
        parse: impl Fn(T) -> Option<(K, V)> + Send + Sync + 'static,
        apply: fn(&mut Store, &Scope, Update<K, V>) -> Vec<Change>,
    ) where
        S: Stream<Item = watcher::Result<Event<T>>> + Send + 'static,
        T: Debug + Send + 'static,
        K: Send + 'static,
        V: Send + 'static,
    {
        let name = reflector.name();
        let heartbeat = self.heartbeats.begin(name.clone());
        let run = reflector.run(events, parse, apply, heartbeat);
        self.supervisor.spawn(name, run);
    }
}

pub(super) fn namespaced<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Applies the events of one watch to the store.
pub(super) struct Reflector {
    client: Client,
    list_method: Arc<ListMethod>,
    store: Arc<SharedStore>,
    metrics: Arc<Metrics>,
    identity: String,
    what: WatchedResource,
    scope: Scope,
    /// Without the right to watch it headstart goes on.
    is_optional: bool,
}

impl Reflector {
    /// Goes on without the right to watch.
    pub(super) fn optional(self) -> Self {
        Self {
            is_optional: true,
            ..self
        }
    }

    fn name(&self) -> String {
        match &self.scope {
            Some(namespace) => format!("watch of {:?} in {namespace}", self.what),
            None => format!("watch of {:?}", self.what),
        }
    }

    /// Runs until the process ends. `parse` reduces an object before the store is locked, and returns `None` for an object to
    /// ignore.
    async fn run<S, T, K, V>(
        self,
        events: impl Fn(watcher::Config) -> S + Send + Sync,
        parse: impl Fn(T) -> Option<(K, V)>,
        apply: fn(&mut Store, &Scope, Update<K, V>) -> Vec<Change>,
        heartbeat: Heartbeat,
    ) where
        S: Stream<Item = watcher::Result<Event<T>>> + Send,
        T: Debug + Send + 'static,
    {
        let what = self.what;
        let config = self.list_method.config(&self.client);
        let config = heartbeat.during(config).await;
        let spread = Spread::of(&self.identity, &self.name());
        let events = watch_stream(|| events(config.clone()), spread);
        let mut events = std::pin::pin!(events);
        let mut complete = false;
        let mut refusals = 0;
        while let Some(event) = heartbeat.during(events.next()).await {
            let event = match event {
                Ok(event) => event,
                Err(error) if self.is_optional && is_forbidden(&error) => {
                    self.metrics.watch_failed(what);
                    refusals += 1;
                    if !complete || refusals == REFUSALS_IN_DOUBT {
                        warn!(?what, %error, "this account may not watch them; they are not taken into account");
                        // An account that has lost the right knows nothing of what follows.
                        for update in [Update::ListStarted, Update::ListFinished] {
                            self.store.update(|store| apply(store, &self.scope, update));
                        }
                        self.complete_list(&mut complete);
                    }
                    heartbeat.during(sleep(forbidden_pause(refusals))).await;
                    continue;
                }
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
            if ends_list {
                refusals = 0;
                self.complete_list(&mut complete);
            }
        }
    }

    /// Counts the first list as complete.
    fn complete_list(&self, complete: &mut bool) {
        if !std::mem::replace(complete, true) {
            self.store.list_completed();
        }
    }
}
