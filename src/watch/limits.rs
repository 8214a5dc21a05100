//! The watches of objects that limit the pods of their namespace.

use futures::TryStreamExt;
use headstart_core::limit_range::ResourceBounds;
use headstart_core::resource_quota::PodQuota;
use headstart_core::store::{ObjectKey, Scope, Store};
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher;

use super::reflector::{Tasks, Watches, namespaced};
use super::slim::{Slim, into_object};
use crate::metrics::WatchedResource;

impl Watches {
    /// Starts the watch of LimitRanges.
    pub(super) fn spawn_limit_ranges(&self, scope: &Scope, tasks: &Tasks<'_>) {
        let api = namespaced::<LimitRange>(&self.client, scope);
        let events = move |config| watcher::watcher(api.clone(), config);
        let parse = |range: LimitRange| {
            let bounds = ResourceBounds::from_limit_range(&range);
            Some((key_of(range.metadata)?, bounds))
        };
        let reflector = self
            .reflector(WatchedResource::LimitRanges, scope, tasks)
            .optional();
        tasks.spawn(reflector, events, parse, Store::apply_limit_range);
    }

    /// Starts the watch of ResourceQuotas.
    pub(super) fn spawn_quotas(&self, scope: &Scope, tasks: &Tasks<'_>) {
        let api = namespaced::<Slim<ResourceQuota>>(&self.client, scope);
        let events = move |config| watcher::watcher(api.clone(), config).map_ok(into_object);
        let priority_class = self.pods.priority_class.clone();
        let parse = move |quota: ResourceQuota| {
            let counted = PodQuota::from_resource_quota(&quota, priority_class.as_deref());
            Some((key_of(quota.metadata)?, counted))
        };
        let reflector = self
            .reflector(WatchedResource::ResourceQuotas, scope, tasks)
            .optional();
        tasks.spawn(reflector, events, parse, Store::apply_quota);
    }
}

fn key_of(metadata: ObjectMeta) -> Option<ObjectKey> {
    Some(ObjectKey {
        namespace: metadata.namespace?,
        name: metadata.name?,
    })
}
