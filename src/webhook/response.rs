//! The answer, in the documented form. kube's own type writes a patch in a form that the API server does not read
//! (kube-rs/kube#1781).

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use json_patch::Patch;
use k8s_openapi::ByteString;
use serde::Serialize;
use tracing::{error, info};

use super::names::{API_VERSION, KIND};
use headstart_core::workload::Workload;

/// The limit for a warning, in characters: the API server truncates longer ones.
pub(super) const MAX_WARNING: usize = 120;
/// The limit for the warnings of one answer: a person reads a few.
pub(super) const MAX_WARNINGS: usize = 5;
/// The usual size of an answer without a patch and with few warnings, so that its buffer does not grow in steps.
const USUAL_LENGTH: usize = 512;

/// An AdmissionReview with a response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReviewResponse {
    api_version: &'static str,
    kind: &'static str,
    response: AdmissionResponse,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionResponse {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// Set if and only if `patch` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    /// Written in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
}

/// The reason of a refusal, which the API server shows to the user.
#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

impl ReviewResponse {
    /// Allows the write, with warnings.
    pub(super) fn allow(uid: String, warnings: impl IntoIterator<Item = String>) -> Self {
        let warnings = warnings
            .into_iter()
            .map(|warning| warning.chars().take(MAX_WARNING).collect())
            .take(MAX_WARNINGS)
            .collect();
        Self::new(AdmissionResponse {
            uid,
            allowed: true,
            status: None,
            warnings,
            patch_type: None,
            patch: None,
        })
    }

    /// Adds a patch of the object.
    pub(super) fn with_patch(mut self, patch: &Patch) -> Self {
        match serde_json::to_vec(patch) {
            Ok(json) => {
                self.response.patch_type = Some("JSONPatch");
                self.response.patch = Some(ByteString(json));
            }
            Err(error) => error!(%error, "a patch cannot be written, and is not sent"),
        }
        self
    }

    /// Refuses the write, with this reason.
    pub(super) fn deny(uid: String, message: String) -> Self {
        let status = Status {
            code: StatusCode::UNPROCESSABLE_ENTITY.as_u16(),
            reason: "Invalid",
            message,
        };
        Self::new(AdmissionResponse {
            uid,
            allowed: false,
            status: Some(status),
            warnings: Vec::new(),
            patch_type: None,
            patch: None,
        })
    }

    fn new(response: AdmissionResponse) -> Self {
        Self {
            api_version: API_VERSION,
            kind: KIND,
            response,
        }
    }
}

impl IntoResponse for ReviewResponse {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(USUAL_LENGTH);
        if let Err(error) = serde_json::to_writer(&mut body, &self) {
            error!(%error, "an answer cannot be written");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let json = HeaderValue::from_static("application/json");
        ([(CONTENT_TYPE, json)], body).into_response()
    }
}

/// The answer to a request that is no review.
#[derive(Debug)]
pub struct RequestError(pub(super) StatusCode, pub(super) String);

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let Self(status, reason) = self;
        // One line, without the body, which may contain anything.
        info!(status = status.as_u16(), %reason, "refused a request that is no review");
        (status, format!("{reason}\n")).into_response()
    }
}

/// Returns the warnings for the user: the images that will not be prefetched, and the reasons.
pub(super) fn warnings(workload: &Workload) -> Vec<String> {
    let mode = workload
        .mode
        .as_ref()
        .err()
        .map(|error| format!("headstart: {error}"));
    let unsupported = workload
        .unsupported
        .images
        .iter()
        .map(|image| format!("headstart: image {}: {}", image.as_written, image.reason));
    let too_large = workload.too_large;
    let too_large = too_large.map(|why| format!("headstart: no prefetch, no hold: {why}"));
    let invalid = workload.annotations.invalid.iter();
    mode.into_iter()
        .chain(too_large)
        .chain(invalid.map(|invalid| format!("headstart: {invalid}")))
        .chain(unsupported)
        .take(MAX_WARNINGS)
        .collect()
}
