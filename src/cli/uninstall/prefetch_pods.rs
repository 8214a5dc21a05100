//! Deletes the prefetch pods that are left in the namespaces of the Deployments.

use futures::{StreamExt, TryStreamExt};
use headstart_core::api::well_known::{MANAGED_BY_LABEL, MANAGER};
use headstart_core::pod::is_prefetch_pod;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};

use super::objects::{Kind, ObjectError};

const POD: Kind = Kind {
    group: "",
    kind: "Pod",
    resource: "pods",
};
/// The number of pods on a page of the list.
const PAGE: u32 = 500;
/// The number of pods that are deleted at once.
const AT_ONCE: usize = 16;

/// Deletes all prefetch pods and returns their number. The label is not enough, because others may set it: the shape of the
/// pod is checked too.
pub(super) async fn delete_all(client: &Client) -> Result<usize, ObjectError> {
    let all: Api<Pod> = Api::all(client.clone());
    let mut page = ListParams::default()
        .labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"))
        .limit(PAGE);
    let mut found = Vec::new();
    while let Some(list) = POD.answer("list", all.list(&page)).await? {
        let ours = list.items.into_iter().filter(is_prefetch_pod);
        found.extend(ours.filter_map(|pod| Some((pod.metadata.namespace?, pod.metadata.name?))));
        match list.metadata.continue_ {
            Some(next) if !next.is_empty() => page.continue_token = Some(next),
            _ => break,
        }
    }
    let delete = async |(namespace, name): (String, String)| {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let now = DeleteParams::default();
        POD.answer("delete", pods.delete(&name, &now)).await
    };
    let deleted = futures::stream::iter(found)
        .map(delete)
        .buffer_unordered(AT_ONCE)
        .try_fold(0, async |count, deleted| {
            Ok(count + usize::from(deleted.is_some()))
        });
    deleted.await
}
