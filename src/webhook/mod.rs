//! From an AdmissionReview to its answer.
//!
//! `/mutate` and `/hold` always answer "allowed", at once and without a client: what is worth pulling is noted for the
//! worker, what cannot be prefetched is said as a warning, and a rollout that is to wait is paused by a patch. They differ in
//! what the namespace asks for, which a review does not say: the registration does, by the path. `/without-consent` only warns, where a
//! Deployment asks for what its namespace has not consented to. `/validate` refuses a malformed value of headstart's own label or
//! annotations, and nothing else. What is no review at all is refused by HTTP status.
//!
//! No answer waits for anything but the request's own bytes; under load a review is allowed without being looked at,
//! since the watch brings the object all the same.

use std::sync::Arc;

use axum::http::StatusCode;
use json_patch::Patch;
use tokio::time::Instant;
use tracing::{debug, warn};

mod answer;
mod body;
mod json;
mod object;
mod patch;
mod prefix;
mod review;
mod serve;
mod validate;

pub use answer::{Answer, Refused};
pub use body::{Budget, MAX_BODY};
pub use serve::router;

use crate::hold::Gate;
use crate::metrics::{Decision, Metrics};
use crate::queue::{Hint, Hints};
use headstart_core::api::mode::{
    Mode, NamespaceMode, consent_command, effective_mode, is_exempt, lacks_consent,
    mode_from_labels,
};
use headstart_core::hold::HoldDecision;
use headstart_core::limits::{ANSWER_BYTES, shown};
use review::{Parsed, Write};

/// What an answer needs.
#[derive(Debug)]
pub struct Webhook {
    /// Where reviews wait for their confirmation.
    pub hints: Arc<Hints>,
    /// Counts decisions.
    pub metrics: Arc<Metrics>,
    /// headstart's own namespace, which is left alone.
    pub own_namespace: Arc<str>,
    /// What the bodies of all requests may take.
    pub budget: Budget,
    /// Decides what waits; `None` if nothing ever does.
    pub gate: Option<Gate>,
}

impl Webhook {
    /// Answers a review of a write that may ask for pulls.
    pub fn mutate(&self, body: &[u8]) -> Result<Answer, Refused> {
        self.admit(body, NamespaceMode::Enabled)
    }

    /// The same, in a namespace that asks for holds.
    pub fn hold(&self, body: &[u8]) -> Result<Answer, Refused> {
        self.admit(body, NamespaceMode::Hold)
    }

    fn admit(&self, body: &[u8], namespace: NamespaceMode) -> Result<Answer, Refused> {
        let (uid, outcome) = match review::parse(body, &self.own_namespace).map_err(bad_request)? {
            Parsed::Other { uid } => (uid, Outcome::of(Decision::Ignored)),
            Parsed::Deployment(write) => (write.uid.clone(), self.note(*write, namespace)),
        };
        let Outcome {
            decision,
            warnings,
            patch,
        } = outcome;
        self.metrics.admission(decision);
        debug!(%uid, ?decision, "answered a review");
        let answer = Answer::allow(uid, warnings);
        Ok(match patch {
            Some(patch) => answer.patched(&patch),
            None => answer,
        })
    }

    /// Answers a review of a Deployment that asks for what its namespace has not consented to: nothing is noted, and the person who
    /// writes is told what is missing.
    pub fn without_consent(&self, body: &[u8]) -> Result<Answer, Refused> {
        let (uid, warning) = match review::parse(body, &self.own_namespace).map_err(bad_request)? {
            Parsed::Other { uid } => (uid, None),
            Parsed::Deployment(write) => {
                let namespace = &write.new.namespace;
                let asks = !is_exempt(namespace, &self.own_namespace)
                    && lacks_consent(&mode_from_labels(write.new.labels()), None);
                let warning = asks.then(|| no_consent(namespace));
                (write.uid, warning)
            }
        };
        self.metrics.admission(Decision::Ignored);
        Ok(Answer::allow(uid, warning))
    }

    /// Answers a review of a write that may set headstart's label or annotations.
    pub fn validate(&self, body: &[u8]) -> Result<Answer, Refused> {
        let (uid, complaints) = match review::parse(body, &self.own_namespace)
            .map_err(bad_request)?
        {
            Parsed::Other { uid } => (uid, Vec::new()),
            Parsed::Deployment(write) if is_exempt(&write.new.namespace, &self.own_namespace) => {
                (write.uid, Vec::new())
            }
            Parsed::Deployment(write) => {
                let complaints = validate::complaints(&write.new, write.old.as_ref());
                (write.uid, complaints)
            }
        };
        if complaints.is_empty() {
            self.metrics.admission(Decision::Valid);
            return Ok(Answer::allow(uid, []));
        }
        self.metrics.admission(Decision::Denied);
        debug!(%uid, "refused a malformed label or annotation");
        let message = complaints.join("; ");
        Ok(Answer::deny(uid, shown(&message, ANSWER_BYTES).into()))
    }

    /// Everything that is not a change of a Deployment's images is none of our business.
    fn note(&self, write: Write<'_>, namespace: NamespaceMode) -> Outcome {
        let Write {
            uid,
            dry_run,
            new,
            old,
        } = write;
        let mode = effective_mode(&mode_from_labels(new.labels()), Some(namespace));
        let gate = self.gate.as_ref().filter(|_| mode == Mode::Hold);
        let target = gate.map(|gate| {
            let lands_alike = old.as_ref().is_some_and(|old| old.lands_like(&new));
            (gate, new.target.clone(), lands_alike)
        });
        let Some(new) = new.into_workload() else {
            debug!(%uid, "the review holds nothing that could be a Deployment");
            return Outcome::of(Decision::Ignored);
        };
        let old = old.and_then(|old| old.into_workload());
        if is_exempt(&new.key.namespace, &self.own_namespace)
            || old
                .as_ref()
                .is_some_and(|old| old.image_set == new.image_set)
        {
            return Outcome::of(Decision::Ignored);
        }
        let mut warnings = answer::warnings(&new);
        let patch = target.and_then(|(gate, target, lands_alike)| {
            match gate.admit(&new, old.as_ref(), lands_alike) {
                HoldDecision::Unchanged => None,
                HoldDecision::Release => target.end(),
                HoldDecision::Hold { since, until } => {
                    warnings.insert(0, gate.warning(&new, until));
                    target.hold(since, until)
                }
            }
        });
        // It shows what the write would become, and is never stored: there is nothing to wait for.
        if dry_run {
            return Outcome {
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
        let noted = new.key.name.is_empty() || {
            let hint = Hint {
                revision: new.image_set,
                admitted: Instant::now(),
            };
            self.hints.note(new.key.clone(), hint)
        };
        if !noted {
            warn!(deployment = %new.key, "too many unconfirmed reviews; this one waits for the watch");
        }
        Outcome {
            decision: if noted { decision } else { Decision::Overflow },
            warnings,
            patch,
        }
    }
}

/// What came of a review.
struct Outcome {
    decision: Decision,
    warnings: Vec<String>,
    patch: Option<Patch>,
}

impl Outcome {
    fn of(decision: Decision) -> Self {
        Self {
            decision,
            warnings: Vec::new(),
            patch: None,
        }
    }
}

fn bad_request(reason: String) -> Refused {
    Refused(StatusCode::BAD_REQUEST, reason)
}

/// The command comes first: what is too long for a warning is cut at its end.
fn no_consent(namespace: &str) -> String {
    let command = consent_command(namespace);
    format!("headstart: run {command}; it does not allow prefetch yet")
}

#[cfg(test)]
mod tests;
