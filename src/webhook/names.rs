//! Names in a review, and their longest forms.

use std::borrow::Cow;

use super::json::{Invalid, Json};

/// The only supported version of AdmissionReview; API servers have had it since 1.16.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of the review.
pub(super) const KIND: &str = "AdmissionReview";

/// The limit for a uid. An API server's uids are UUIDs.
pub(super) const MAX_UID: usize = 128;
/// The limit for the name of a field or an object: the longest name that an API server allows.
pub(super) const MAX_NAME: usize = 253;

/// Reads a short text. A long one is cut, but remains longer than the limit.
pub(super) fn name<'a>(json: &mut Json<'a>) -> Result<Cow<'a, str>, Invalid> {
    Ok(json.text()?.up_to(MAX_NAME))
}
