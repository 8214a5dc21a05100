//! The watches of objects that limit the pods of their namespace.

use headstart_core::limit_range::ResourceBounds;
use headstart_core::store::{ObjectKey, Scope, Store};
use k8s_openapi::api::core::v1::LimitRange;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher;

use super::reflector::{Tasks, Watches, namespaced};
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
}

fn key_of(metadata: ObjectMeta) -> Option<ObjectKey> {
    Some(ObjectKey {
        namespace: metadata.namespace?,
        name: metadata.name?,
    })
}
