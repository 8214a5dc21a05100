//! The only refusal of headstart: an invalid value of its own label or annotations.
//!
//! Only values that this write sets are checked. A value that was stored before must not prevent other changes.

use std::collections::BTreeMap;

use super::deployment_view::ReviewedDeployment;
use headstart_core::api::annotations::Annotations;
use headstart_core::api::mode::mode_from_labels;

/// Returns the errors, which name the key, the value and the accepted form.
pub(super) fn validation_errors(
    new: &ReviewedDeployment<'_>,
    old: Option<&ReviewedDeployment<'_>>,
) -> Vec<String> {
    let labels = changed(new.labels(), old.and_then(ReviewedDeployment::labels));
    let annotations = changed(
        new.annotations(),
        old.and_then(ReviewedDeployment::annotations),
    );
    let mode = mode_from_labels(Some(&labels)).err();
    let invalid = Annotations::read(Some(&annotations)).invalid;
    let mode = mode.map(|unknown| unknown.to_string());
    mode.into_iter()
        .chain(invalid.iter().map(ToString::to_string))
        .collect()
}

fn changed(
    new: Option<&BTreeMap<String, String>>,
    old: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    new.into_iter()
        .flatten()
        .filter(|(key, value)| old.and_then(|old| old.get(*key)) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
