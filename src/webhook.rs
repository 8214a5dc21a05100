//! From an AdmissionReview to its answer.
//!
//! The answer is always "allowed", at once and without a client: what is worth pulling is noted for the worker,
//! and what cannot be prefetched is said as a warning. Only what is no review at all is refused, by HTTP status.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use k8s_openapi::api::apps::v1::Deployment;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{debug, info, warn};

use crate::domain::contract::is_exempt;
use crate::domain::workload::{Key, Workload};
use crate::metrics::{Decision, Metrics};
use crate::queue::{Hint, Hints};

/// Where the API server posts its reviews.
pub const PATH: &str = "/mutate";

/// The API server accepts objects of 3 MiB, and an update carries two of them; controller-runtime draws the same
/// line.
pub const MAX_BODY: usize = 7 * 1024 * 1024;

/// The only version of the review that is spoken; the API server has had it since 1.16.
const API_VERSION: &str = "admission.k8s.io/v1";

/// Longest warning, in characters: the API server truncates what is longer.
const MAX_WARNING: usize = 120;
/// Most warnings on one answer: a person reads a few.
const MAX_WARNINGS: usize = 5;

/// What an answer needs.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where reviews wait for their confirmation.
    pub hints: Arc<Hints>,
    /// Counts decisions.
    pub metrics: Arc<Metrics>,
    /// headstart's own namespace, which is left alone.
    pub own_namespace: Arc<str>,
}

/// The routes of the webhook.
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route(PATH, post(review))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::new())
        .with_state(webhook)
}

/// The part of a review that is read. The objects stay as they came until they are worth parsing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'a str,
    kind: &'a str,
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    #[serde(borrow)]
    kind: Kind<'a>,
    operation: &'a str,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    group: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
}

/// The answer, as documented: kube's own type writes a patch in a form that the API server does not read
/// (kube-rs/kube#1781).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Verdict,
}

#[derive(Debug, Serialize)]
struct Verdict {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// What a request that is no review is told.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, reason) = self;
        // One line, without the body: it may hold anything.
        info!(status = status.as_u16(), %reason, "refused a request that is no review");
        (status, format!("{reason}\n")).into_response()
    }
}

async fn review(
    State(webhook): State<Webhook>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<axum::Json<Answer>, Refused> {
    let refused = |status, reason: String| {
        webhook.metrics.admission(Decision::Refused);
        Refused(status, reason)
    };
    let json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(is_json);
    if !json {
        return Err(refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/json".into(),
        ));
    }
    let body = body.map_err(|rejection| refused(rejection.status(), rejection.body_text()))?;
    let review = parse(&body).map_err(|reason| refused(StatusCode::BAD_REQUEST, reason))?;
    let uid = review.request.uid.clone();
    let (decision, warnings) = decide(&webhook, review.request);
    webhook.metrics.admission(decision);
    debug!(%uid, ?decision, "answered a review");
    let response = Verdict {
        uid,
        allowed: true,
        warnings,
    };
    Ok(axum::Json(Answer {
        api_version: API_VERSION,
        kind: "AdmissionReview",
        response,
    }))
}

fn is_json(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/json")
}

fn parse(body: &[u8]) -> Result<Review<'_>, String> {
    let review: Review<'_> = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not an AdmissionReview: {error}"))?;
    if review.api_version != API_VERSION || review.kind != "AdmissionReview" {
        return Err(format!(
            "want {API_VERSION} AdmissionReview, got {} {}",
            review.api_version, review.kind
        ));
    }
    if review.request.uid.is_empty() {
        return Err("request.uid is empty".into());
    }
    Ok(review)
}

/// Everything that is not a change of a Deployment's images is none of our business.
fn decide(webhook: &Webhook, request: Request<'_>) -> (Decision, Vec<String>) {
    let Request {
        uid,
        kind,
        operation,
        name,
        namespace,
        dry_run,
        object,
        old_object,
    } = request;
    if (kind.group.as_ref(), kind.kind.as_ref()) != ("apps", "Deployment")
        || !matches!(operation, "CREATE" | "UPDATE")
    {
        return (Decision::Ignored, Vec::new());
    }
    let Some(new) =
        object.and_then(|object| workload(object, name.as_deref(), namespace.as_deref()))
    else {
        // With generateName there is no name yet: the watch brings the object once it has one.
        debug!(%uid, "the review names no Deployment that could be looked up");
        return (Decision::Ignored, Vec::new());
    };
    let old = old_object.and_then(|object| workload(object, name.as_deref(), namespace.as_deref()));
    if is_exempt(&new.key.namespace, &webhook.own_namespace)
        || old.is_some_and(|old| old.revision == new.revision)
    {
        return (Decision::Ignored, Vec::new());
    }
    let warnings = warnings(&new);
    // A dry run is never stored, so there is nothing to wait for.
    if dry_run == Some(true) {
        return (Decision::DryRun, warnings);
    }
    let key: Key = new.key;
    let hint = Hint {
        revision: new.revision,
        admitted: Instant::now(),
    };
    if webhook.hints.note(key.clone(), hint) {
        (Decision::Noted, warnings)
    } else {
        warn!(deployment = %key, "too many unconfirmed reviews; this one waits for the watch");
        (Decision::Overflow, warnings)
    }
}

/// Reads the object; the review's own name and namespace are the ones the API server vouches for.
fn workload(object: &RawValue, name: Option<&str>, namespace: Option<&str>) -> Option<Workload> {
    let mut deployment: Deployment = match serde_json::from_str(object.get()) {
        Ok(deployment) => deployment,
        Err(error) => {
            // `null` is how the API server says that there is none.
            if object.get() != "null" {
                info!(%error, "a review's object is not a Deployment; the write is allowed");
            }
            return None;
        }
    };
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        deployment.metadata.name = Some(name.to_owned());
    }
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        deployment.metadata.namespace = Some(namespace.to_owned());
    }
    Workload::from_deployment(&deployment)
}

/// What the person who writes should know: it will not be prefetched, and why.
fn warnings(workload: &Workload) -> Vec<String> {
    let mode = workload
        .mode
        .as_ref()
        .err()
        .map(|error| format!("headstart: {error}"));
    let refused = workload
        .refused
        .iter()
        .map(|refused| format!("headstart: image {}: {}", refused.given, refused.reason));
    let malformed = workload.annotations.malformed.iter();
    mode.into_iter()
        .chain(malformed.map(|malformed| format!("headstart: {malformed}")))
        .chain(refused)
        .map(|warning| warning.chars().take(MAX_WARNING).collect())
        .take(MAX_WARNINGS)
        .collect()
}

#[cfg(test)]
mod tests;
