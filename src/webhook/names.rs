//! Names in a review, and their longest forms.

use std::borrow::Cow;

use super::json::{Invalid, Json};

/// The only version of the review that is spoken; the API server has had it since 1.16.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";
/// Its kind.
pub(super) const KIND: &str = "AdmissionReview";

/// An API server's are UUIDs.
pub(super) const MAX_UID: usize = 128;
/// Longest name of a field or an object that is looked at: the longest that an API server gives.
pub(super) const MAX_NAME: usize = 253;

/// A short text; of a long one so much that it is seen to be long.
pub(super) fn name<'a>(json: &mut Json<'a>) -> Result<Cow<'a, str>, Invalid> {
    Ok(json.text()?.up_to(MAX_NAME))
}
