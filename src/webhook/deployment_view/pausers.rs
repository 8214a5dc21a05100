//! The fields of a Deployment in a review that show whether another client sets `spec.paused`. They are parsed only if a hold
//! depends on them.

use headstart_core::api::well_known::HELD_LABEL;
use headstart_core::hold::{LAST_APPLIED, OwnedFields, PAUSER_ANNOTATIONS, manifest_pauses};

use crate::webhook::json::{Invalid, Json, JsonStr, each};
use crate::webhook::names::MAX_NAME;

/// The limit for an applied manifest: the annotations of an object have no more bytes together.
const MAX_MANIFEST: usize = 256 * 1024;

/// The fields, as they were written.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::webhook) struct Pausers<'a> {
    /// `metadata.managedFields`.
    pub(super) managed_fields: &'a [u8],
    last_applied: Option<JsonStr<'a>>,
    has_mark: bool,
}

impl<'a> Pausers<'a> {
    /// Reads an annotation that shows a pause. Returns whether it is one.
    pub(super) fn take(&mut self, key: &str, json: &mut Json<'a>) -> Result<bool, Invalid> {
        if key == LAST_APPLIED {
            self.last_applied = json.optional(Json::text)?;
        } else if PAUSER_ANNOTATIONS.contains(&key) {
            self.has_mark = true;
            json.skip()?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Returns whether another client owns `spec.paused`, or shows in another way that it pauses.
    pub(in crate::webhook) fn name_pause(&self) -> bool {
        self.has_mark
            || each(self.managed_fields, owned_fields)
                .any(|entry| entry.is_ok_and(OwnedFields::is_pauser))
            || self
                .last_applied
                .is_some_and(|manifest| manifest_pauses(&manifest.up_to(MAX_MANIFEST)))
    }
}

/// Reads an entry of `managedFields`.
fn owned_fields(json: &mut Json<'_>) -> Result<OwnedFields, Invalid> {
    let mut owned = OwnedFields::default();
    let found = &mut owned;
    at(json, "fieldsV1", |json| {
        json.object(|key, json| match &*key.up_to(MAX_NAME) {
            "f:spec" => at(json, "f:paused", |json| {
                found.paused = true;
                json.skip().map(drop)
            }),
            "f:metadata" => at(json, "f:labels", |json| {
                json.object(|key, json| {
                    let key = key.up_to(MAX_NAME);
                    found.held_label |= key.strip_prefix("f:") == Some(HELD_LABEL);
                    json.skip().map(drop)
                })
            }),
            _ => json.skip().map(drop),
        })
    })?;
    Ok(owned)
}

/// Reads the value of a key of an object, and skips the rest.
fn at<'a>(
    json: &mut Json<'a>,
    wanted: &str,
    mut read: impl FnMut(&mut Json<'a>) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    json.object(|key, json| {
        if key.up_to(MAX_NAME) == wanted {
            read(json)
        } else {
            json.skip().map(drop)
        }
    })
}
