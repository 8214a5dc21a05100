//! From an HTTP request to its answer: routes, bodies, and the thread on which a review is parsed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use futures::FutureExt;
use tokio::time::Instant;
use tracing::debug;

use super::body::{self, ReceivedBody};
use super::{RequestError, ReviewResponse, Webhook, partial_review};
use crate::metrics::{Decision, Lack};

/// The path for reviews of namespaces that are enabled or allowed.
pub(super) const MUTATE: &str = "/mutate";
/// The path for reviews of namespaces that ask for holds.
pub(super) const HOLD: &str = "/hold";
/// The path for reviews of Deployments that opt in by their own label, in namespaces without the label.
pub(super) const WITHOUT_CONSENT: &str = "/without-consent";
/// The path for reviews of headstart's own label and annotations.
pub(super) const VALIDATE: &str = "/validate";

/// Returns the routes of the webhook.
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route(MUTATE, post(mutate))
        .route(HOLD, post(hold))
        .route(WITHOUT_CONSENT, post(without_consent))
        .route(VALIDATE, post(validate))
        .with_state(Arc::new(webhook))
}

async fn mutate(
    State(webhook): State<Arc<Webhook>>,
    request: Request,
) -> Result<ReviewResponse, RequestError> {
    webhook.serve(request, Webhook::mutate).await
}

async fn hold(
    State(webhook): State<Arc<Webhook>>,
    request: Request,
) -> Result<ReviewResponse, RequestError> {
    webhook.serve(request, Webhook::hold).await
}

async fn without_consent(
    State(webhook): State<Arc<Webhook>>,
    request: Request,
) -> Result<ReviewResponse, RequestError> {
    webhook.serve(request, Webhook::without_consent).await
}

async fn validate(
    State(webhook): State<Arc<Webhook>>,
    request: Request,
) -> Result<ReviewResponse, RequestError> {
    webhook.serve(request, Webhook::validate).await
}

/// The handler of a review, by its path.
type Decide = fn(&Webhook, &[u8]) -> Result<ReviewResponse, RequestError>;

impl Webhook {
    pub(super) async fn serve(
        self: Arc<Self>,
        request: Request,
        decide: Decide,
    ) -> Result<ReviewResponse, RequestError> {
        let answer = AssertUnwindSafe(self.answer(request, decide));
        let answer = answer.catch_unwind().await.unwrap_or_else(|_| Err(bug()));
        if answer.is_err() {
            self.metrics.admission(Decision::Refused);
        }
        answer
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request,
        decide: Decide,
    ) -> Result<ReviewResponse, RequestError> {
        let (body, room) = match self.receive(request).await? {
            ReceivedBody::Complete(body, _room) if body.len() <= body::SMALL => {
                return decide(self, &body);
            }
            ReceivedBody::Complete(body, room) => (body, room),
            ReceivedBody::Truncated(prefix, lack) => return self.shed(&prefix, lack),
        };
        let Some(turn) = self.memory_budget.turn().await else {
            return self.shed(&body[..body::KEPT_PREFIX], Lack::Processor);
        };
        let webhook = self.clone();
        let deciding = tokio::task::spawn_blocking(move || {
            // Released when the thread is done, even if the caller leaves earlier.
            let _held = (room, turn);
            decide(&webhook, &body)
        });
        deciding.await.unwrap_or_else(|_| Err(bug()))
    }

    async fn receive(&self, request: Request) -> Result<ReceivedBody, RequestError> {
        let (parts, body) = request.into_parts();
        let content_type = parts.headers.get(CONTENT_TYPE);
        if !content_type.is_some_and(|value| value.to_str().is_ok_and(is_json)) {
            return Err(RequestError(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be application/json".into(),
            ));
        }
        let deadline = body::deadline(&parts.uri, Instant::now());
        body::receive(&parts.headers, body, &self.memory_budget, deadline).await
    }

    /// Allows a review that is not read for lack of a resource.
    fn shed(&self, prefix: &[u8], lack: Lack) -> Result<ReviewResponse, RequestError> {
        let Some(uid) = partial_review::uid_of_prefix(prefix) else {
            return Err(RequestError(
                StatusCode::SERVICE_UNAVAILABLE,
                "no room or no time to read this".into(),
            ));
        };
        self.metrics.shed(lack);
        debug!(%uid, ?lack, "a review is not read; it is allowed, and left to the watch");
        Ok(ReviewResponse::allow(uid, []))
    }
}

/// The message to a caller after a panic.
fn bug() -> RequestError {
    let what = "this is a bug; the log says where".into();
    RequestError(StatusCode::INTERNAL_SERVER_ERROR, what)
}

fn is_json(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/json")
}
