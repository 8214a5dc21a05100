//! The properties of every answer, for any body. The property test and the fuzz target share them.

use std::sync::OnceLock;

use headstart::testing::{
    HoldAdmission, HoldGate, MAX_PENDING_REVIEWS, MemoryBudget, Metrics, PendingReviews,
    RequestError, ReviewResponse, SharedStore, Webhook,
};
use headstart_core::hold::HoldLimits;
use headstart_core::pod::PodSettings;
use k8s_openapi::ByteString;
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

/// Longest warning and most warnings, as the API server takes and a person reads them.
const MAX_WARNING: usize = 120;
const MAX_WARNINGS: usize = 5;
/// Most bytes of an answer, or of the reason why there is none, for any body.
const MAX_ANSWER: usize = 4096;

pub(crate) fn webhook() -> &'static Webhook {
    static WEBHOOK: OnceLock<Webhook> = OnceLock::new();
    WEBHOOK.get_or_init(|| Webhook {
        reviews: PendingReviews::default().into(),
        metrics: Metrics::default().into(),
        own_namespace: "headstart".into(),
        memory_budget: MemoryBudget::default(),
        holds: Some(gate()),
    })
}

/// Holds every rollout that asks for it: nothing is known of any node.
fn gate() -> HoldAdmission {
    let settings = PodSettings::new("headstart");
    HoldAdmission {
        store: SharedStore::new("headstart"),
        settings: settings.into(),
        limits: HoldLimits {
            default: SignedDuration::from_mins(5),
            max: SignedDuration::from_mins(30),
        },
        namespaces: Vec::new().into(),
        permit: Default::default(),
        gate: HoldGate::just_renewed(),
    }
}

/// The class of a body, by the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// No review.
    Refused,
    /// A review that is answered without a patch.
    Answered,
    /// A review whose rollout is held, or whose hold ends.
    Patched,
}

/// Panics if an answer to this body is not what the API server expects.
pub(crate) fn check(body: &[u8]) -> Taken {
    let webhook = webhook();
    let mutated = verdict(webhook.mutate(body));
    let held = verdict(webhook.hold(body));
    let validated = verdict(webhook.validate(body));
    // One reads what the others read.
    assert_eq!(mutated.is_some(), validated.is_some());
    assert_eq!(mutated.is_some(), held.is_some());
    let expired = webhook.reviews.expire(far_future());
    assert!(expired <= MAX_PENDING_REVIEWS);
    let (Some(mutated), Some(held), Some(validated)) = (mutated, held, validated) else {
        return Taken::Refused;
    };
    assert_eq!(mutated["uid"], validated["uid"]);
    assert_eq!(mutated["uid"], held["uid"]);
    assert!(mutated["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
    // Fields that are not read need not be valid: a text that is no UTF-8, a number beyond all bounds.
    let review: Option<Value> = serde_json::from_slice(body).ok();
    if let Some(review) = &review {
        assert_eq!(mutated["uid"], review["request"]["uid"]);
    }
    // A mutating webhook of headstart never stands in the way, and says what it says briefly.
    for answer in [&mutated, &held] {
        assert_eq!(answer["allowed"], true);
        let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
        assert!(warnings.len() <= MAX_WARNINGS);
        for warning in warnings {
            assert!(warning.as_str().expect("text").chars().count() <= MAX_WARNING);
        }
        if let Some(review) = &review {
            check_patch(answer, &review["request"]["object"]);
        }
    }
    assert!(validated.get("patch").is_none() && validated.get("patchType").is_none());
    // Each denial is for a label or annotation of headstart's that is in the object, and the message says so.
    if validated["allowed"] == false {
        let message = validated["status"]["message"].as_str().expect("a reason");
        assert!(
            message.contains("headstart.dev/") && message.contains("use "),
            "{message}"
        );
        let object = review.map(|review| review["request"]["object"].to_string());
        assert!(object.is_none_or(|object| object.contains("headstart.dev/")));
    }
    if held.get("patch").is_some() {
        Taken::Patched
    } else {
        Taken::Answered
    }
}

/// A patch is base64 with its type, or absent. It applies to every object that can be received, and changes the pause and the
/// marks of a hold and nothing else.
fn check_patch(answer: &Value, object: &Value) {
    assert_eq!(
        answer.get("patch").is_some(),
        answer.get("patchType") == Some(&json!("JSONPatch"))
    );
    let Some(patch) = answer.get("patch") else {
        return;
    };
    let patch: ByteString = serde_json::from_value(patch.clone()).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).expect("a JSON patch");
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch).expect("it applies");
    assert_eq!(without_hold(patched), without_hold(object.clone()));
}

/// Returns the object without the fields that a hold changes. An empty map and none are the same to the API server.
fn without_hold(mut object: Value) -> Value {
    let spec = object["spec"].as_object_mut().expect("it has a spec");
    spec.remove("paused");
    let metadata = object["metadata"].as_object_mut().expect("it has metadata");
    for map in ["labels", "annotations"] {
        let own = |key: &str| key.starts_with("headstart.dev/held");
        if let Some(content) = metadata.get_mut(map).and_then(Value::as_object_mut) {
            content.retain(|key, _| !own(key));
        }
        let empty = |content: &Value| {
            content.is_null() || content.as_object().is_some_and(serde_json::Map::is_empty)
        };
        if metadata.get(map).is_some_and(empty) {
            metadata.remove(map);
        }
    }
    object
}

fn verdict(answer: Result<ReviewResponse, RequestError>) -> Option<Value> {
    let answer = match answer {
        Ok(answer) => serde_json::to_value(answer).expect("an answer is JSON"),
        Err(refused) => {
            assert!(format!("{refused:?}").len() <= MAX_ANSWER);
            return None;
        }
    };
    assert!(answer.to_string().len() <= MAX_ANSWER, "{answer}");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    Some(answer["response"].clone())
}

fn far_future() -> tokio::time::Instant {
    tokio::time::Instant::now() + headstart::testing::REVIEW_LIFETIME
}
