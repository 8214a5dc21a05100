//! Finds out whether a Deployment's user wants it paused, by its managed fields and by what kubectl applied.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use serde::Deserialize;

use crate::api::hold_mark::HoldMark;
use crate::api::well_known::HELD_LABEL;

/// Returns whether a user paused the Deployment independently of the hold.
///
/// A field that a webhook sets has no owner in `managedFields`. A manager that owns the mark as well has copied a held Deployment.
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
    owned || applied_paused(deployment).unwrap_or(false)
}

/// Returns whether the manifest that client-side apply kept in an annotation pauses the Deployment, apart from a hold.
fn applied_paused(deployment: &Deployment) -> Option<bool> {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let applied = deployment
        .metadata
        .annotations
        .as_ref()?
        .get(LAST_APPLIED)?;
    let Applied { metadata, spec } = serde_json::from_str(applied).ok()?;
    let paused = spec.and_then(|spec| spec.paused).unwrap_or(false);
    let labels = metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.as_ref());
    let copied = HoldMark::from_metadata(labels, None, paused).is_some();
    Some(paused && !copied)
}

/// What of an applied manifest counts. Whoever may edit the Deployment wrote it: three bytes can be an empty container, which
/// read whole takes a kilobyte.
#[derive(Deserialize)]
struct Applied {
    metadata: Option<AppliedMetadata>,
    spec: Option<AppliedSpec>,
}

#[derive(Deserialize)]
struct AppliedMetadata {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct AppliedSpec {
    paused: Option<bool>,
}
