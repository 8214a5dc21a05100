//! Who wants a Deployment paused.

use k8s_openapi::api::apps::v1::Deployment;

use super::applied;
use crate::domain::contract::HELD_LABEL;

/// Whether whoever wrote the Deployment wants it paused, apart from the hold: their manifest says so.
///
/// What a webhook sets belongs to nobody in `managedFields`. Who owns the mark as well has copied a held Deployment.
pub fn is_paused_by_user(deployment: &Deployment) -> bool {
    let owns = |fields: &serde_json::Value, path: [&str; 2]| {
        fields.get(path[0]).and_then(|f| f.get(path[1])).is_some()
    };
    let label = format!("f:{HELD_LABEL}");
    let owned = deployment
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter_map(|entry| entry.fields_v1.as_ref())
        .any(|fields| {
            let marks = fields.0.get("f:metadata").and_then(|m| m.get("f:labels"));
            owns(&fields.0, ["f:spec", "f:paused"])
                && marks.and_then(|labels| labels.get(&label)).is_none()
        });
    owned || applied::paused(deployment).unwrap_or(false)
}
