//! Ends a hold. This is headstart's only write to a user's object.

use std::time::Duration;

use headstart_core::api::hold_mark::HoldId;
use headstart_core::controller::command::{ResumeOutcome, WriteError};
use headstart_core::hold::{ResumePlan, plan_resume};
use headstart_core::image::ImageSetId;
use headstart_core::workload::DeploymentKey;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio::time::timeout;

use super::write_error::write_error;

/// The limit for one attempt, which is two requests.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// The limit for one request. A read that hangs leaves the write its time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of times that another client may change a Deployment between the read and the write.
const MAX_CONFLICTS: usize = 8;

/// Ends the hold of a Deployment without a controller that retries; with `hold`, only this one.
///
/// # Errors
/// The reason for which the hold could not be ended.
pub(crate) async fn release(
    client: &Client,
    key: &DeploymentKey,
    hold: Option<&HoldId>,
) -> Result<ResumeOutcome, String> {
    for _ in 0..MAX_CONFLICTS {
        match timeout(ATTEMPT_TIMEOUT, resume(client, key, hold, None)).await {
            Ok(Ok(ResumeOutcome::Conflict)) => {}
            Ok(Ok(outcome)) => return Ok(outcome),
            Ok(Err(error)) => return Err(error.message().to_owned()),
            Err(_) => {
                let seconds = ATTEMPT_TIMEOUT.as_secs();
                return Err(format!("no answer within {seconds} s"));
            }
        }
    }
    Err(format!("it was changed {MAX_CONFLICTS} times meanwhile"))
}

/// Ends the hold of a Deployment; with `hold`, only this one, and with `only_if`, only if it waits for these images.
///
/// The write fails if the Deployment has changed since the read, so that a user's own pause stays.
pub(super) async fn resume(
    client: &Client,
    key: &DeploymentKey,
    hold: Option<&HoldId>,
    only_if: Option<&ImageSetId>,
) -> Result<ResumeOutcome, WriteError> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &key.namespace);
    let stored = answer(api.get_opt(&key.name)).await?;
    let Some(deployment) = stored.map_err(write_error)? else {
        return Ok(ResumeOutcome::NotHeld);
    };
    let (patch, outcome) = match plan_resume(&deployment, hold, only_if) {
        ResumePlan::Done(outcome) => return Ok(outcome),
        ResumePlan::Write { patch, outcome } => (patch, outcome),
    };
    let params = PatchParams::default();
    match answer(api.patch(&key.name, &params, &Patch::Merge(&patch))).await? {
        Ok(_) => Ok(outcome),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(ResumeOutcome::Conflict),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(ResumeOutcome::NotHeld),
        Err(error) => Err(write_error(error)),
    }
}

/// Waits for the answer to one request.
async fn answer<T>(request: impl Future<Output = T>) -> Result<T, WriteError> {
    let answer = timeout(REQUEST_TIMEOUT, request).await;
    answer.map_err(|_| {
        let seconds = REQUEST_TIMEOUT.as_secs();
        WriteError::Unknown(format!("no answer within {seconds} s"))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use axum::http::{Request, Response};
    use kube::client::Body;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_answer_ends_after_ten_seconds() {
        let silent = tower::service_fn(|_: Request<Body>| async {
            pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let key = DeploymentKey {
            namespace: "shop".into(),
            name: "web".into(),
        };
        let started = Instant::now();
        let resumed = resume(&Client::new(silent, "default"), &key, None, None).await;
        assert!(
            matches!(resumed, Err(WriteError::Unknown(_))),
            "{resumed:?}"
        );
        assert_eq!(started.elapsed(), REQUEST_TIMEOUT);
    }
}
