//! Ends many holds without a controller: for the command line, and for the last replica.

use std::time::Duration;

use futures::StreamExt;
use headstart_core::api::hold_mark::{HoldId, HoldMark};
use headstart_core::api::well_known::{HELD_LABEL, HELD_VALUE};
use headstart_core::controller::command::ResumeOutcome;
use headstart_core::workload::DeploymentKey;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::timeout;

use crate::driver::resume::release;

/// The limit for the list of held Deployments.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of Deployments on a page of the list: their annotations may be large.
const PAGE: u32 = 100;
/// The number of Deployments that are resumed at once.
const AT_ONCE: usize = 16;

/// The Deployments that are held could not be listed.
#[derive(Debug, Error)]
pub(crate) enum ListError {
    /// The API server refuses, or fails.
    #[error("cannot list Deployments")]
    Api(#[from] kube::Error),
    /// It does not answer.
    #[error("no list of Deployments within {} s", LIST_TIMEOUT.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// A Deployment that carries the marks of a hold.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: DeploymentKey,
    pub(crate) uid: String,
    /// As if it were paused: the write that ends the hold looks again.
    pub(crate) mark: HoldMark,
}

/// A hold to end.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) key: DeploymentKey,
    /// Only this hold; `None` for any.
    pub(crate) hold: Option<HoldId>,
}

impl Held {
    /// Returns this hold, and no later one of the Deployment.
    pub(crate) fn only_this(self) -> Target {
        let hold = HoldId {
            uid: self.uid,
            since: self.mark.since,
        };
        Target {
            key: self.key,
            hold: Some(hold),
        }
    }

    /// Returns any hold of the Deployment.
    pub(crate) fn any(self) -> Target {
        Target {
            key: self.key,
            hold: None,
        }
    }
}

fn held_deployment(metadata: ObjectMeta) -> Option<Held> {
    let labels = metadata.labels.as_ref();
    let mark = HoldMark::from_metadata(labels, metadata.annotations.as_ref(), true)?;
    let key = DeploymentKey {
        namespace: metadata.namespace?,
        name: metadata.name?,
    };
    let uid = metadata.uid?;
    Some(Held { key, uid, mark })
}

/// Lists the Deployments that are held in these namespaces; in all, if none is named.
pub(crate) async fn list_held(
    client: &Client,
    namespaces: &[String],
) -> Result<Vec<Held>, ListError> {
    let apis: Vec<Api<Deployment>> = if namespaces.is_empty() {
        vec![Api::all(client.clone())]
    } else {
        let of = |namespace: &String| Api::namespaced(client.clone(), namespace);
        namespaces.iter().map(of).collect()
    };
    let marked = ListParams::default()
        .labels(&format!("{HELD_LABEL}={HELD_VALUE}"))
        .limit(PAGE);
    let mut held = Vec::new();
    for api in apis {
        let mut page = marked.clone();
        loop {
            let list = timeout(LIST_TIMEOUT, api.list_metadata(&page)).await??;
            let found = list.items.into_iter();
            held.extend(found.filter_map(|deployment| held_deployment(deployment.metadata)));
            match list.metadata.continue_ {
                Some(next) if !next.is_empty() => page.continue_token = Some(next),
                _ => break,
            }
        }
    }
    Ok(held)
}

/// Ends these holds, and calls `report` with each result as it comes.
pub(crate) async fn release_all(
    client: &Client,
    targets: Vec<Target>,
    mut report: impl FnMut(&DeploymentKey, Result<ResumeOutcome, String>),
) {
    let release_one = async |target: Target| {
        let resumed = release(client, &target.key, target.hold.as_ref()).await;
        (target.key, resumed)
    };
    let mut results = futures::stream::iter(targets)
        .map(release_one)
        .buffer_unordered(AT_ONCE);
    while let Some((key, resumed)) = results.next().await {
        report(&key, resumed);
    }
}
