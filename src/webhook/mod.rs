//! Answers AdmissionReviews.
//!
//! A review does not carry the namespace's labels, so the webhook configuration selects the path by `namespaceSelector`:
//! `/mutate` for `enabled` and `allowed`, `/hold` for `hold`, `/without-consent` for namespaces without the label. `/mutate`
//! and `/hold` always answer "allowed". They record the review, warn of images that cannot be prefetched, and in mode `hold`
//! pause the rollout by a patch. `/without-consent` only warns if a Deployment asks for a prefetch that its namespace does not
//! allow. `/validate` refuses an invalid value of headstart's own label or annotations, and nothing else. A body that is no
//! review is refused by its HTTP status.
//!
//! An answer waits only for the bytes of the request. Under load a review is allowed unread: the watch brings the object all
//! the same.

use std::sync::Arc;

use axum::http::StatusCode;
use json_patch::Patch;
use tokio::time::Instant;
use tracing::debug;

mod body;
mod deployment_view;
mod hold_admission;
mod json;
mod names;
mod partial_review;
mod patch;
mod pending_reviews;
mod response;
mod review;
mod serve;
mod validate;

pub use body::{MAX_BODY, MemoryBudget};
pub use hold_admission::HoldAdmission;
use pending_reviews::PendingReview;
pub use pending_reviews::{MAX_PENDING_REVIEWS, PendingReviews, REVIEW_LIFETIME};
pub use response::{RequestError, ReviewResponse};
pub use serve::router;

use crate::metrics::{Decision, Metrics};
use headstart_core::api::mode::{
    Mode, NamespaceMode, consent_command, effective_mode, is_exempt, lacks_consent,
    mode_from_labels,
};
use headstart_core::hold::HoldDecision;
use headstart_core::limits::{ANSWER_BYTES, shown};
use review::{DeploymentWrite, ParsedReview};

/// The parts of the webhook that an answer needs.
#[derive(Debug)]
pub struct Webhook {
    /// The reviews that wait for their stored objects.
    pub reviews: Arc<PendingReviews>,
    /// Counts decisions.
    pub metrics: Arc<Metrics>,
    /// headstart's own namespace, which is left alone.
    pub own_namespace: Arc<str>,
    /// The limit for the memory of all bodies.
    pub memory_budget: MemoryBudget,
    /// Decides about holds; `None` if rollouts are not held.
    pub holds: Option<HoldAdmission>,
}

impl Webhook {
    /// Answers a review of a write that may ask for pulls.
    pub fn mutate(&self, body: &[u8]) -> Result<ReviewResponse, RequestError> {
        self.admit(body, NamespaceMode::Enabled)
    }

    /// Answers such a review in a namespace that asks for holds.
    pub fn hold(&self, body: &[u8]) -> Result<ReviewResponse, RequestError> {
        self.admit(body, NamespaceMode::Hold)
    }

    fn admit(&self, body: &[u8], namespace: NamespaceMode) -> Result<ReviewResponse, RequestError> {
        let (uid, reviewed) = match review::parse(body, &self.own_namespace).map_err(bad_request)? {
            ParsedReview::Other { uid } => (uid, ReviewDecision::of(Decision::Ignored)),
            ParsedReview::Deployment(write) => {
                (write.uid.clone(), self.review_deployment(*write, namespace))
            }
        };
        let ReviewDecision {
            decision,
            warnings,
            patch,
        } = reviewed;
        self.metrics.admission(decision);
        debug!(%uid, ?decision, "answered a review");
        let response = ReviewResponse::allow(uid, warnings);
        Ok(match patch {
            Some(patch) => response.with_patch(&patch),
            None => response,
        })
    }

    /// Answers a review of a Deployment that asks for a prefetch without the consent of its namespace. Nothing is recorded,
    /// and a warning tells the user what is missing.
    pub fn without_consent(&self, body: &[u8]) -> Result<ReviewResponse, RequestError> {
        let (uid, warning) = match review::parse(body, &self.own_namespace).map_err(bad_request)? {
            ParsedReview::Other { uid } => (uid, None),
            ParsedReview::Deployment(write) => {
                let namespace = &write.new.namespace;
                let asks = !is_exempt(namespace, &self.own_namespace)
                    && lacks_consent(&mode_from_labels(write.new.labels()), None);
                let warning = asks.then(|| no_consent(namespace));
                (write.uid, warning)
            }
        };
        self.metrics.admission(Decision::Ignored);
        Ok(ReviewResponse::allow(uid, warning))
    }

    /// Answers a review of a write that may set headstart's label or annotations.
    pub fn validate(&self, body: &[u8]) -> Result<ReviewResponse, RequestError> {
        let (uid, errors) = match review::parse(body, &self.own_namespace).map_err(bad_request)? {
            ParsedReview::Other { uid } => (uid, Vec::new()),
            ParsedReview::Deployment(write)
                if is_exempt(&write.new.namespace, &self.own_namespace) =>
            {
                (write.uid, Vec::new())
            }
            ParsedReview::Deployment(write) => {
                let errors = validate::validation_errors(&write.new, write.old.as_ref());
                (write.uid, errors)
            }
        };
        if errors.is_empty() {
            self.metrics.admission(Decision::Valid);
            return Ok(ReviewResponse::allow(uid, []));
        }
        self.metrics.admission(Decision::Denied);
        debug!(%uid, "refused a malformed label or annotation");
        let message = errors.join("; ");
        Ok(ReviewResponse::deny(
            uid,
            shown(&message, ANSWER_BYTES).into(),
        ))
    }

    /// Reviews a write of a Deployment. A write that does not change images is ignored.
    fn review_deployment(
        &self,
        write: DeploymentWrite<'_>,
        namespace: NamespaceMode,
    ) -> ReviewDecision {
        let DeploymentWrite {
            uid,
            dry_run,
            new,
            old,
        } = write;
        let mode = effective_mode(&mode_from_labels(new.labels()), Some(namespace));
        let holds = self.holds.as_ref().filter(|_| mode == Mode::Hold);
        let patch_base = holds.map(|holds| {
            let same_constraints = old
                .as_ref()
                .is_some_and(|old| old.same_constraints_and_credentials(&new));
            (holds, new.patch_base.clone(), same_constraints, new.pausers)
        });
        let Some(new) = new.into_workload() else {
            debug!(%uid, "the review holds nothing that could be a Deployment");
            return ReviewDecision::of(Decision::Ignored);
        };
        let old = old.and_then(|old| old.into_workload());
        if is_exempt(&new.key.namespace, &self.own_namespace)
            || old
                .as_ref()
                .is_some_and(|old| old.image_set == new.image_set)
        {
            return ReviewDecision::of(Decision::Ignored);
        }
        let mut warnings = response::warnings(&new);
        let patch = patch_base.and_then(|(holds, patch_base, same_constraints, pausers)| {
            let names_pause = pausers.name_pause();
            match holds.decide(&new, old.as_ref(), same_constraints, names_pause) {
                HoldDecision::Unchanged => None,
                HoldDecision::PauseNamed => {
                    warnings.insert(0, HoldAdmission::PAUSE_NAMED.to_owned());
                    None
                }
                HoldDecision::NotHeld { reason, was_held } => {
                    warnings.insert(0, reason.warning().to_owned());
                    if !dry_run {
                        self.metrics.not_held(reason);
                    }
                    was_held.then(|| patch_base.release_patch(names_pause))?
                }
                HoldDecision::Release => patch_base.release_patch(names_pause),
                HoldDecision::Hold { since, until } => {
                    warnings.insert(0, holds.warning(&new, until));
                    patch_base.hold_patch(since, until)
                }
            }
        });
        // A dry run shows the result of the write, and is never stored, so no review is recorded.
        if dry_run {
            return ReviewDecision {
                decision: Decision::DryRun,
                warnings,
                patch,
            };
        }
        let decision = if patch.is_some() {
            Decision::Held
        } else {
            Decision::Noted
        };
        // With generateName there is no name yet: the watch brings the object once it has one.
        if !new.key.name.is_empty() {
            let review = PendingReview {
                images: new.image_set,
                admitted: Instant::now(),
            };
            self.reviews.record(new.key, review);
        }
        ReviewDecision {
            decision,
            warnings,
            patch,
        }
    }
}

/// The result of a review.
struct ReviewDecision {
    decision: Decision,
    warnings: Vec<String>,
    patch: Option<Patch>,
}

impl ReviewDecision {
    fn of(decision: Decision) -> Self {
        Self {
            decision,
            warnings: Vec::new(),
            patch: None,
        }
    }
}

fn bad_request(reason: String) -> RequestError {
    RequestError(StatusCode::BAD_REQUEST, reason)
}

/// Returns a warning that starts with the command, because long warnings are cut at their end.
fn no_consent(namespace: &str) -> String {
    let command = consent_command(namespace);
    format!("headstart: run {command}; it does not allow prefetch yet")
}

#[cfg(test)]
mod tests;
