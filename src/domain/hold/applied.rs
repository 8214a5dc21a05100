//! kubectl's copy of a manifest, in an annotation of the object.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use serde::Deserialize;

use super::Held;

/// Whether what client-side apply was last given pauses it, apart from a hold.
pub(super) fn paused(deployment: &Deployment) -> Option<bool> {
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
    let copied = Held::marked(labels, None, paused).is_some();
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
