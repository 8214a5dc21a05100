//! What holds of every answer, whatever the body. Shared by the property test and the fuzz target.

use std::sync::OnceLock;

use headstart::metrics::Metrics;
use headstart::queue::{Hints, MAX_HINTS};
use headstart::webhook::{Answer, Budget, Refused, Webhook};
use serde_json::Value;

/// Longest warning and most warnings, as the API server takes and a person reads them.
const MAX_WARNING: usize = 120;
const MAX_WARNINGS: usize = 5;

fn webhook() -> &'static Webhook {
    static WEBHOOK: OnceLock<Webhook> = OnceLock::new();
    WEBHOOK.get_or_init(|| Webhook {
        hints: Hints::default().into(),
        metrics: Metrics::default().into(),
        own_namespace: "headstart".into(),
        budget: Budget::default(),
    })
}

/// Panics if an answer to this body is not what the API server expects. Whether it was taken for a review.
pub(crate) fn check(body: &[u8]) -> bool {
    let webhook = webhook();
    let mutated = verdict(webhook.mutate(body));
    let validated = verdict(webhook.validate(body));
    // One reads what the other reads.
    assert_eq!(mutated.is_some(), validated.is_some());
    let expired = webhook.hints.expire(far_future());
    assert!(expired <= MAX_HINTS);
    let (Some(mutated), Some(validated)) = (mutated, validated) else {
        return false;
    };
    assert_eq!(mutated["uid"], validated["uid"]);
    assert!(mutated["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
    // What is not read need not be sound: a text that is no UTF-8, a number beyond all bounds.
    let review: Option<Value> = serde_json::from_slice(body).ok();
    if let Some(review) = &review {
        assert_eq!(mutated["uid"], review["request"]["uid"]);
    }
    // A mutating webhook of headstart never stands in the way, and says what it says briefly.
    assert_eq!(mutated["allowed"], true);
    let warnings = mutated["warnings"].as_array().cloned().unwrap_or_default();
    assert!(warnings.len() <= MAX_WARNINGS);
    for warning in warnings {
        assert!(warning.as_str().expect("text").chars().count() <= MAX_WARNING);
    }
    // A patch would be base64 with its type, or absent: there is none.
    assert!(mutated.get("patch").is_none() && mutated.get("patchType").is_none());
    assert!(validated.get("patch").is_none() && validated.get("patchType").is_none());
    // What is denied is denied for a label or annotation of headstart's that is in the object, and the message says so.
    if validated["allowed"] == false {
        let message = validated["status"]["message"].as_str().expect("a reason");
        assert!(
            message.contains("headstart.dev/") && message.contains("use "),
            "{message}"
        );
        let object = review.map(|review| review["request"]["object"].to_string());
        assert!(object.is_none_or(|object| object.contains("headstart.dev/")));
    }
    true
}

fn verdict(answer: Result<Answer, Refused>) -> Option<Value> {
    let answer = serde_json::to_value(answer.ok()?).expect("an answer is JSON");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    Some(answer["response"].clone())
}

fn far_future() -> tokio::time::Instant {
    tokio::time::Instant::now() + headstart::queue::HINT_LIFETIME
}
