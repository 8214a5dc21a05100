//! Checks that this account may resume the rollouts that it would hold.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::timeout;

/// The limit for an answer about the account's rights.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The API server could not be asked for the rights of this account.
#[derive(Debug, Error)]
pub(super) enum AccessError {
    /// The request failed.
    #[error("cannot ask the API server for our own rights")]
    Api(#[from] kube::Error),
    /// The API server did not answer.
    #[error("the API server did not say what our rights are within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// Returns whether this account may resume Deployments in these namespaces, or in all if the list is empty.
pub(super) async fn can_resume(
    client: &Client,
    namespaces: &[String],
) -> Result<bool, AccessError> {
    let all = [String::new()];
    let namespaces = if namespaces.is_empty() {
        &all
    } else {
        namespaces
    };
    for namespace in namespaces {
        for verb in ["get", "patch"] {
            if !may(client, verb, namespace).await? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

async fn may(client: &Client, verb: &str, namespace: &str) -> Result<bool, AccessError> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some("apps".to_owned()),
                resource: Some("deployments".to_owned()),
                verb: Some(verb.to_owned()),
                // An empty namespace means all namespaces.
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let params = PostParams::default();
    let answer = timeout(ANSWER_TIMEOUT, reviews.create(&params, &review)).await??;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
