//! Ends a hold: the one write of a user's object that headstart makes.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::timeout;

use headstart_core::api::hold_mark::HoldMark;
use headstart_core::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL};
use headstart_core::hold::is_paused_by_user;
use headstart_core::image::ImageSetId;
use headstart_core::workload::{DeploymentKey, Workload};

/// How long the API server may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a Deployment may be changed by others between our read and our write before it is left for later.
const ATTEMPTS: usize = 8;

/// What came of ending a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// The rollout goes on.
    Yes,
    /// Somebody had resumed it; the marks are gone now.
    ByHand,
    /// It stays paused, because whoever wrote it wants that; the marks are gone now.
    StaysPaused,
    /// There is no such hold.
    NotHeld,
    /// It waits for other images by now.
    Changed,
    /// It could not be done; why.
    Failed(String),
}

/// Ends the hold of a Deployment. With `of`, only if it waits for these images.
///
/// Read and written back only if it is unchanged since: a pause that a user sets in between is theirs.
pub async fn resume(client: &Client, key: &DeploymentKey, of: Option<&ImageSetId>) -> Resumed {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &key.namespace);
    for _ in 0..ATTEMPTS {
        match attempt(&api, &key.name, of).await {
            Ok(Some(resumed)) => return resumed,
            Ok(None) => {}
            Err(reason) => return Resumed::Failed(reason),
        }
    }
    Resumed::Failed(format!("it was changed {ATTEMPTS} times meanwhile"))
}

/// `None` if it was changed between read and write.
async fn attempt(
    api: &Api<Deployment>,
    name: &str,
    of: Option<&ImageSetId>,
) -> Result<Option<Resumed>, String> {
    let stored = answered(api.get_opt(name)).await?.map_err(said)?;
    let Some(deployment) = stored else {
        return Ok(Some(Resumed::NotHeld));
    };
    let Some(held) = HoldMark::read(&deployment) else {
        return Ok(Some(Resumed::NotHeld));
    };
    let is_of = |wanted: &ImageSetId| {
        Workload::from_deployment(&deployment).is_some_and(|w| w.image_set == *wanted)
    };
    let resumed = if !held.paused {
        Resumed::ByHand
    } else if is_paused_by_user(&deployment) {
        Resumed::StaysPaused
    } else if of.is_some_and(|wanted| !is_of(wanted)) {
        return Ok(Some(Resumed::Changed));
    } else {
        Resumed::Yes
    };
    let mut patch = json!({
        "metadata": {
            // The API server answers 409 if it has another.
            "resourceVersion": deployment.metadata.resource_version,
            "labels": { HELD_LABEL: null },
            "annotations": { HELD_SINCE: null, HELD_UNTIL: null },
        },
    });
    if resumed == Resumed::Yes {
        patch["spec"] = json!({ "paused": Value::Null });
    }
    let params = PatchParams::default();
    match answered(api.patch(name, &params, &Patch::Merge(&patch))).await? {
        Ok(_) => Ok(Some(resumed)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(Resumed::NotHeld)),
        Err(error) => Err(said(error)),
    }
}

async fn answered<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<kube::Result<T>, String> {
    let answer = timeout(ANSWER_TIMEOUT, request).await;
    answer.map_err(|_| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
}

fn said(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}
