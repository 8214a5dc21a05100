//! The watches of a replica: they bring the log of the API server late, are cut, and list anew.

use headstart_core::api::mode::namespace_mode;
use headstart_core::resource_quota::PodQuota;
use headstart_core::store::{
    Change, NodeName, NodeRecord, ObjectKey as QuotaKey, ObservedPod, PodId, Store, Update,
};
use headstart_core::workload::Workload;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api_server::{Kind, LogEntry, Object, ObjectKey};
use crate::cluster::Cluster;
use crate::mutation::Mutation;
use crate::options::Fault;
use crate::queue::{Life, Step};
use crate::workloads::core_key;

/// One watch.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The next entry of the log.
    position: usize,
    /// A step that delivers it is on its way.
    scheduled: bool,
    /// It lists anew before it goes on.
    cut: bool,
    /// It has listed once.
    pub synced: bool,
}

impl Watch {
    /// Schedules the next change, if there is one and none is on its way.
    pub(crate) fn schedule(&mut self, life: Life, kind: Kind, cluster: &mut Cluster) {
        if self.scheduled || self.cut || !self.synced {
            return;
        }
        let Some(entry) = cluster.api.log[kind.index()].get(self.position) else {
            return;
        };
        let (stored, name) = (entry.at, entry.key.name.clone());
        let replica = life.replica.to_string();
        let mut random = cluster.draw(&["watch", &replica, kind.resource(), &name]);
        let lag =
            if cluster.options.has(Fault::WatchLag) && !cluster.healed && random.per_mille(100) {
                cluster.count("fault: late watch");
                random.within(1000..=30_000)
            } else {
                random.within(1..=200)
            };
        self.scheduled = true;
        cluster.queue.at(stored + lag, Step::Deliver(life, kind));
    }

    /// Delivers the next change.
    pub(crate) fn deliver(
        &mut self,
        kind: Kind,
        store: &mut Store,
        cluster: &Cluster,
    ) -> Vec<Change> {
        self.scheduled = false;
        if self.cut {
            return Vec::new();
        }
        let Some(entry) = cluster.api.log[kind.index()].get(self.position) else {
            return Vec::new();
        };
        self.position += 1;
        apply(kind, store, cluster, entry)
    }

    /// Cuts the watch. It lists anew after a while.
    pub(crate) fn cut(&mut self, life: Life, kind: Kind, cluster: &mut Cluster) {
        if self.cut {
            return;
        }
        self.cut = true;
        let mut random = cluster.draw(&["relist", &life.replica.to_string(), kind.resource()]);
        cluster
            .queue
            .after(random.within(100..=20_000), Step::Relist(life, kind));
    }

    /// Lists all objects as they are, or, at `stale`, as they were so many changes ago.
    pub(crate) fn relist(
        &mut self,
        kind: Kind,
        store: &mut Store,
        cluster: &Cluster,
        stale: usize,
    ) -> Vec<Change> {
        let log = &cluster.api.log[kind.index()];
        self.position = log.len().saturating_sub(stale);
        self.cut = false;
        self.synced = true;
        self.scheduled = false;
        let mut listed: BTreeMap<&ObjectKey, &LogEntry> = BTreeMap::new();
        for entry in &log[..self.position] {
            if entry.deleted {
                listed.remove(&entry.key);
            } else {
                listed.insert(&entry.key, entry);
            }
        }
        let mut changes = bounds(kind, store, false);
        for entry in listed.into_values() {
            changes.extend(apply(kind, store, cluster, entry));
        }
        if cluster.mutation != Some(Mutation::RelistKeepsGone) {
            changes.extend(bounds(kind, store, true));
        }
        changes
    }
}

/// Begins or ends a list.
fn bounds(kind: Kind, store: &mut Store, end: bool) -> Vec<Change> {
    macro_rules! update {
        () => {
            if end {
                Update::ListFinished
            } else {
                Update::ListStarted
            }
        };
    }
    match kind {
        Kind::Namespace => store.apply_namespace(&None, update!()),
        Kind::Node => store.apply_node(&None, update!()),
        Kind::Deployment => store.apply_deployment(&None, update!()),
        Kind::Pod => store.apply_pod(&None, update!()),
        Kind::ResourceQuota => store.apply_quota(&None, update!()),
        Kind::LimitRange | Kind::ServiceAccount | Kind::Lease | Kind::Event => Vec::new(),
    }
}

fn apply(kind: Kind, store: &mut Store, cluster: &Cluster, entry: &LogEntry) -> Vec<Change> {
    let LogEntry {
        key,
        object,
        deleted,
        ..
    } = entry;
    match kind {
        Kind::Namespace if *deleted => {
            store.apply_namespace(&None, Update::Deleted(key.name.clone()))
        }
        Kind::Namespace => store.apply_namespace(&None, applied_namespace(object)),
        Kind::Node => {
            let name = NodeName::from(key.name.as_str());
            let mut node = object.node().clone();
            if let Some(status) = &mut node.status
                && cluster.mutation == Some(Mutation::DiskPressureIgnored)
            {
                let conditions = status.conditions.iter_mut().flatten();
                for condition in conditions.filter(|condition| condition.type_ == "DiskPressure") {
                    condition.status = "False".to_owned();
                }
            }
            let record = || NodeRecord::from_node(&node, cluster.options.node_images);
            let update = match record().filter(|_| !deleted) {
                Some(record) => Update::Applied(name, record),
                None => Update::Deleted(name),
            };
            store.apply_node(&None, update)
        }
        Kind::Deployment => {
            let mut workload = Workload::from_deployment(object.deployment());
            if let Some(workload) = &mut workload
                && cluster.mutation == Some(Mutation::QuotaIgnored)
            {
                workload.state.rollout.quota_exceeded = false;
            }
            let update = match workload.filter(|_| !deleted) {
                Some(workload) => Update::Applied(workload.key.clone(), workload),
                None => Update::Deleted(core_key(key)),
            };
            store.apply_deployment(&None, update)
        }
        Kind::Pod => {
            // As headstart's watch: by the label, then by the shape.
            let selected = object.label(headstart_core::api::well_known::DEPLOYMENT_LABEL);
            let id = selected.and_then(|_| PodId::of(object.pod()));
            let Some(id) = id else { return Vec::new() };
            let noop = &cluster.options.config.pods.noop_image;
            let update = if *deleted {
                Update::Deleted(id)
            } else {
                Update::Applied(id, ObservedPod::from_pod(object.pod(), noop))
            };
            store.apply_pod(&None, update)
        }
        Kind::ResourceQuota if cluster.mutation == Some(Mutation::QuotaIgnored) => Vec::new(),
        Kind::ResourceQuota => {
            let quota_key = QuotaKey {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
            };
            let class = cluster.options.config.pods.priority_class.as_deref();
            let quota = serde_json::from_value(object.value.clone()).ok();
            let quota = quota.filter(|_| !deleted);
            let update = match quota {
                Some(quota) => {
                    Update::Applied(quota_key, PodQuota::from_resource_quota(&quota, class))
                }
                None => Update::Deleted(quota_key),
            };
            store.apply_quota(&None, update)
        }
        Kind::LimitRange | Kind::ServiceAccount | Kind::Lease | Kind::Event => Vec::new(),
    }
}

fn applied_namespace(
    object: &Arc<Object>,
) -> Update<String, Option<headstart_core::api::mode::NamespaceMode>> {
    let labels: BTreeMap<String, String> = object.value["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    let mode = namespace_mode(Some(&labels)).unwrap_or_default();
    Update::Applied(object.metadata("name").to_owned(), mode)
}
