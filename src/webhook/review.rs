//! Reads an AdmissionReview: only the fields that a decision needs, because anyone can send one.
//!
//! The fields beside the objects decide whether the objects are read. The API server writes most of these fields first.

use std::borrow::Cow;

use super::deployment_view::{RawDeployment, ReviewedDeployment};
use super::json::{Invalid, Json, beginning};
use super::names::{API_VERSION, KIND, MAX_NAME, MAX_UID, name};
use headstart_core::api::mode::is_exempt;
use headstart_core::limits::VALUE_BYTES;

/// A write of a Deployment.
pub(super) struct DeploymentWrite<'a> {
    /// The uid of the review.
    pub(super) uid: String,
    /// True if the object is never stored.
    pub(super) dry_run: bool,
    /// The Deployment after the write.
    pub(super) new: ReviewedDeployment<'a>,
    /// The Deployment before an update.
    pub(super) old: Option<ReviewedDeployment<'a>>,
}

/// A review that was understood.
pub(super) enum ParsedReview<'a> {
    /// A write of a Deployment.
    Deployment(Box<DeploymentWrite<'a>>),
    /// Something else, to be allowed.
    Other {
        /// The uid of the review.
        uid: String,
    },
}

/// A review whose objects are not converted yet.
#[derive(Default)]
struct Review<'a> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    request: Option<Request<'a>>,
}

#[derive(Default)]
struct Request<'a> {
    uid: Cow<'a, str>,
    group: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    operation: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    namespace: Option<Cow<'a, str>>,
    dry_run: bool,
    object: Option<RawDeployment<'a>>,
    old_object: Option<RawDeployment<'a>>,
}

/// Reads a review, or returns a message about the error. The objects of an exempt namespace are not read; `own` is headstart's
/// namespace.
pub(super) fn parse<'a>(body: &'a [u8], own: &str) -> Result<ParsedReview<'a>, String> {
    let review =
        Review::read(body, own).map_err(|error| format!("the body is not an {KIND}: {error}"))?;
    let Review {
        api_version,
        kind,
        request,
    } = review;
    if api_version != API_VERSION || kind != KIND {
        let (version, kind) = (shown(&api_version), shown(&kind));
        return Err(format!("want {API_VERSION} {KIND}, got {version} {kind}"));
    }
    let request = request.ok_or("request is missing")?;
    match request.uid.len() {
        0 => Err("request.uid is empty".into()),
        1..=MAX_UID => Ok(request.parsed(own)),
        _ => Err(format!("request.uid is longer than {MAX_UID} bytes")),
    }
}

fn shown(text: &str) -> &str {
    beginning(text, VALUE_BYTES)
}

impl<'a> Review<'a> {
    fn read(body: &'a [u8], own: &str) -> Result<Self, Invalid> {
        let mut json = Json::new(body);
        let mut review = Self::default();
        json.object(|key, json| {
            match &*key.up_to(MAX_NAME) {
                "apiVersion" => review.api_version = name(json)?,
                "kind" => review.kind = name(json)?,
                "request" => review.request = Some(Request::read(json, own)?),
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        json.end()?;
        Ok(review)
    }
}

impl<'a> Request<'a> {
    fn read(json: &mut Json<'a>, own: &str) -> Result<Self, Invalid> {
        let mut request = Self::default();
        json.object(|key, json| {
            match &*key.up_to(MAX_NAME) {
                "uid" => request.uid = name(json)?,
                "kind" => request.read_kind(json)?,
                "operation" => request.operation = Some(name(json)?),
                "name" => request.name = json.optional(name)?,
                "namespace" => request.namespace = json.optional(name)?,
                "dryRun" => request.dry_run = json.optional(Json::boolean)? == Some(true),
                "object" => request.object = request.read_object(json, own)?,
                "oldObject" => request.old_object = request.read_object(json, own)?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        Ok(request)
    }

    fn read_kind(&mut self, json: &mut Json<'a>) -> Result<(), Invalid> {
        json.object(|key, json| {
            match &*key.up_to(MAX_NAME) {
                "group" => self.group = Some(name(json)?),
                "kind" => self.kind = Some(name(json)?),
                _ => drop(json.skip()?),
            }
            Ok(())
        })
    }

    /// Reads an object, or skips it if the fields before it show that it does not matter. `None` also for an object of another
    /// form.
    fn read_object(
        &self,
        json: &mut Json<'a>,
        own: &str,
    ) -> Result<Option<RawDeployment<'a>>, Invalid> {
        if self.is_of_others(own) {
            json.skip()?;
            return Ok(None);
        }
        Ok(json.attempt(RawDeployment::read)?.ok())
    }

    /// Returns whether the fields read so far show that this is no write of a Deployment, or is in an exempt namespace.
    fn is_of_others(&self, own: &str) -> bool {
        let is = |text: &Option<Cow<'_, str>>, wanted: &[&str]| {
            text.as_deref().is_none_or(|text| wanted.contains(&text))
        };
        let namespace = self.namespace.as_deref();
        namespace.is_some_and(|namespace| is_exempt(namespace, own))
            || !is(&self.group, &["apps"])
            || !is(&self.kind, &["Deployment"])
            || !is(&self.operation, &["CREATE", "UPDATE"])
    }

    fn parsed(self, own: &str) -> ParsedReview<'a> {
        let known = self.group.is_some() && self.kind.is_some() && self.operation.is_some();
        let of_others = !known || self.is_of_others(own);

        let Self {
            uid,
            name,
            namespace,
            dry_run,
            object,
            old_object,
            ..
        } = self;
        let uid = uid.into_owned();
        if of_others {
            return ParsedReview::Other { uid };
        }
        let subject = |object: RawDeployment<'a>| {
            ReviewedDeployment::new(object, name.as_deref(), namespace.as_deref())
        };
        let Some(new) = object.and_then(subject) else {
            return ParsedReview::Other { uid };
        };
        ParsedReview::Deployment(Box::new(DeploymentWrite {
            uid,
            dry_run,
            new,
            old: old_object.and_then(subject),
        }))
    }
}
