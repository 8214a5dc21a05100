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

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use futures::FutureExt;
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
mod validate;

pub use answer::{Answer, Refused};
pub use body::{Budget, MAX_BODY};

use crate::hold::Gate;
use crate::metrics::{Decision, Lack, Metrics};
use crate::queue::{Hint, Hints};
use body::Received;
use headstart_core::contract::{
    Mode, NamespaceMode, consent_command, effective_mode, is_exempt, labelled_mode, lacks_consent,
};
use headstart_core::hold::Admission;
use headstart_core::limits::{ANSWER_BYTES, shown};
use review::{Parsed, Write};

/// Where the API server posts reviews of what may have to be pulled.
pub(crate) const MUTATE: &str = "/mutate";
/// The same, of namespaces that ask for holds.
pub(crate) const HOLD: &str = "/hold";
/// Where the API server posts reviews of Deployments that opt in by their own label, in namespaces that say nothing.
pub(crate) const WITHOUT_CONSENT: &str = "/without-consent";
/// Where the API server posts reviews of headstart's own label and annotations.
pub(crate) const VALIDATE: &str = "/validate";

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

/// The routes of the webhook.
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route(MUTATE, post(mutate))
        .route(HOLD, post(hold))
        .route(WITHOUT_CONSENT, post(without_consent))
        .route(VALIDATE, post(validate))
        .with_state(Arc::new(webhook))
}

async fn mutate(State(webhook): State<Arc<Webhook>>, request: Request) -> Result<Answer, Refused> {
    webhook.serve(request, Webhook::mutate).await
}

async fn hold(State(webhook): State<Arc<Webhook>>, request: Request) -> Result<Answer, Refused> {
    webhook.serve(request, Webhook::hold).await
}

async fn without_consent(
    State(webhook): State<Arc<Webhook>>,
    request: Request,
) -> Result<Answer, Refused> {
    webhook.serve(request, Webhook::without_consent).await
}

async fn validate(
    State(webhook): State<Arc<Webhook>>,
    request: Request,
) -> Result<Answer, Refused> {
    webhook.serve(request, Webhook::validate).await
}

/// What answers a review, by its path.
type Decide = fn(&Webhook, &[u8]) -> Result<Answer, Refused>;

impl Webhook {
    async fn serve(self: Arc<Self>, request: Request, decide: Decide) -> Result<Answer, Refused> {
        let answer = AssertUnwindSafe(self.answer(request, decide));
        let answer = answer.catch_unwind().await.unwrap_or_else(|_| Err(bug()));
        if answer.is_err() {
            self.metrics.admission(Decision::Refused);
        }
        answer
    }

    async fn answer(self: &Arc<Self>, request: Request, decide: Decide) -> Result<Answer, Refused> {
        let (body, room) = match self.receive(request).await? {
            Received::Whole(body, _room) if body.len() <= body::SMALL => {
                return decide(self, &body);
            }
            Received::Whole(body, room) => (body, room),
            Received::Beginning(prefix, lack) => return self.shed(&prefix, lack),
        };
        let Some(turn) = self.budget.turn().await else {
            return self.shed(&body[..body::PREFIX], Lack::Processor);
        };
        let webhook = self.clone();
        let deciding = tokio::task::spawn_blocking(move || {
            // Given back when the thread is done: a caller that goes meanwhile does not end it.
            let _held = (room, turn);
            decide(&webhook, &body)
        });
        deciding.await.unwrap_or_else(|_| Err(bug()))
    }

    async fn receive(&self, request: Request) -> Result<Received, Refused> {
        let (parts, body) = request.into_parts();
        let content_type = parts.headers.get(CONTENT_TYPE);
        if !content_type.is_some_and(|value| value.to_str().is_ok_and(is_json)) {
            return Err(Refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be application/json".into(),
            ));
        }
        let deadline = body::deadline(&parts.uri, Instant::now());
        body::receive(&parts.headers, body, &self.budget, deadline).await
    }

    /// Allows a review that cannot be read for want of something.
    fn shed(&self, prefix: &[u8], lack: Lack) -> Result<Answer, Refused> {
        let Some(uid) = prefix::uid_of_prefix(prefix) else {
            return Err(Refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "no room or no time to read this".into(),
            ));
        };
        self.metrics.shed(lack);
        debug!(%uid, ?lack, "a review is not read; it is allowed, and left to the watch");
        Ok(Answer::allow(uid, []))
    }

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
                    && lacks_consent(&labelled_mode(write.new.labels()), None);
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
        let mode = effective_mode(&labelled_mode(new.labels()), Some(namespace));
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
            || old.as_ref().is_some_and(|old| old.revision == new.revision)
        {
            return Outcome::of(Decision::Ignored);
        }
        let mut warnings = answer::warnings(&new);
        let patch = target.and_then(|(gate, target, lands_alike)| {
            match gate.admit(&new, old.as_ref(), lands_alike) {
                Admission::Leave => None,
                Admission::End => target.end(),
                Admission::Hold { since, until } => {
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
                revision: new.revision,
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

/// What a caller is told after a panic.
fn bug() -> Refused {
    let what = "this is a bug; the log says where".into();
    Refused(StatusCode::INTERNAL_SERVER_ERROR, what)
}

fn bad_request(reason: String) -> Refused {
    Refused(StatusCode::BAD_REQUEST, reason)
}

fn is_json(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/json")
}

/// The command comes first: what is too long for a warning is cut at its end.
fn no_consent(namespace: &str) -> String {
    let command = consent_command(namespace);
    format!("headstart: run {command}; it does not allow prefetch yet")
}

#[cfg(test)]
mod tests;
