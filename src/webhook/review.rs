//! What is read of an AdmissionReview: as little as decides, because anyone can send one.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::object::{Object, Subject};

/// The only version of the review that is spoken; the API server has had it since 1.16.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";
/// Its kind.
pub(super) const KIND: &str = "AdmissionReview";

/// An API server's are UUIDs.
pub(super) const MAX_UID: usize = 128;

/// A review, with objects as far as they can be read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub(super) struct Review<'a, O = Object<'a>> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) request: Request<'a, O>,
}

/// The request in it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub(super) struct Request<'a, O = Object<'a>> {
    pub(super) uid: String,
    #[serde(borrow)]
    kind: Kind<'a>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    name: Option<String>,
    namespace: Option<String>,
    dry_run: Option<bool>,
    // Boxed, because what is large is moved often on its way out of a parser.
    #[serde(default = "none")]
    object: Option<Box<O>>,
    #[serde(default = "none")]
    old_object: Option<Box<O>>,
}

fn none<O>() -> Option<Box<O>> {
    None
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

/// What a write does to a Deployment.
pub(super) struct Write<'a> {
    /// Identifies the review.
    pub(super) uid: String,
    /// Whether it is never stored.
    pub(super) dry_run: bool,
    /// As it is to be.
    pub(super) new: Subject<'a>,
    /// As it was, of an update.
    pub(super) old: Option<Subject<'a>>,
}

/// A review that was understood.
pub(super) enum Parsed<'a> {
    /// A write of a Deployment.
    Deployment(Box<Write<'a>>),
    /// Something else, to be allowed.
    Other {
        /// Identifies the review.
        uid: String,
    },
}

/// Reads a review; an error says in words what is wrong with it.
pub(super) fn parse(body: &[u8]) -> Result<Parsed<'_>, String> {
    match serde_json::from_slice::<Review<'_>>(body) {
        Ok(review) => {
            check(&review)?;
            Ok(review.request.into_parsed())
        }
        // A review of an object that is no Deployment is still a review, and is allowed.
        Err(_) => {
            let review: Review<'_, IgnoredAny> = serde_json::from_slice(body)
                .map_err(|error| format!("the body is not an {KIND}: {error}"))?;
            check(&review)?;
            Ok(Parsed::Other {
                uid: review.request.uid,
            })
        }
    }
}

fn check<O>(review: &Review<'_, O>) -> Result<(), String> {
    if review.api_version != API_VERSION || review.kind != KIND {
        let shown = |text: &str| text.chars().take(64).collect::<String>();
        return Err(format!(
            "want {API_VERSION} {KIND}, got {} {}",
            shown(&review.api_version),
            shown(&review.kind)
        ));
    }
    match review.request.uid.len() {
        0 => Err("request.uid is empty".into()),
        1..=MAX_UID => Ok(()),
        _ => Err(format!("request.uid is longer than {MAX_UID} bytes")),
    }
}

impl<'a> Request<'a> {
    fn into_parsed(self) -> Parsed<'a> {
        let Self {
            uid,
            kind,
            operation,
            name,
            namespace,
            dry_run,
            object,
            old_object,
        } = self;
        if (kind.group.as_ref(), kind.kind.as_ref()) != ("apps", "Deployment")
            || !matches!(operation.as_ref(), "CREATE" | "UPDATE")
        {
            return Parsed::Other { uid };
        }
        let subject =
            |object: Box<Object<'a>>| object.into_subject(name.as_deref(), namespace.as_deref());
        let Some(new) = object.and_then(subject) else {
            return Parsed::Other { uid };
        };
        Parsed::Deployment(Box::new(Write {
            uid,
            dry_run: dry_run == Some(true),
            new,
            old: old_object.and_then(subject),
        }))
    }
}
