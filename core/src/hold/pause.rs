//! Finds out whether another client pauses a Deployment: its user, or another controller.
//!
//! A webhook's change has no owner in `metadata.managedFields`, so headstart's own pause has none. Limit: a patch that sets
//! `paused: true` where it is true already changes nothing, and leaves no trace either.

use k8s_openapi::api::apps::v1::Deployment;
use serde::Deserialize;

use crate::api::well_known::{HELD_LABEL, HELD_VALUE};

/// The annotation in which client-side apply keeps the manifest.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations by which other controllers say that they have paused a Deployment. Stakater's Reloader does so to collect changes of
/// ConfigMaps.
pub const PAUSER_ANNOTATIONS: [&str; 1] = ["deployment.reloader.stakater.com/paused-at"];

/// The fields that one manager owns, of those that tell of a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnedFields {
    /// `spec.paused`.
    pub paused: bool,
    /// The label of held Deployments.
    pub held_label: bool,
}

impl OwnedFields {
    /// Returns whether the manager pauses the Deployment. One that owns the label as well has copied a held Deployment.
    pub fn is_pauser(self) -> bool {
        self.paused && !self.held_label
    }
}

/// Returns whether another client pauses the Deployment, independently of the hold.
pub fn is_paused_by_user(deployment: &Deployment) -> bool {
    let metadata = &deployment.metadata;
    let fields = metadata.managed_fields.iter().flatten();
    let fields = fields.filter_map(|entry| entry.fields_v1.as_ref());
    let annotations = metadata.annotations.as_ref();
    let annotation = |key| annotations.and_then(|annotations| annotations.get(key));
    fields
        .map(|fields| owned_fields(&fields.0))
        .any(OwnedFields::is_pauser)
        || annotation(LAST_APPLIED).is_some_and(|manifest| manifest_pauses(manifest))
        || PAUSER_ANNOTATIONS
            .into_iter()
            .any(|key| annotation(key).is_some())
}

fn owned_fields(fields: &serde_json::Value) -> OwnedFields {
    let owns = |path: &[&str]| {
        let found = path.iter().try_fold(fields, |at, key| at.get(key));
        found.is_some()
    };
    let label = format!("f:{HELD_LABEL}");
    OwnedFields {
        paused: owns(&["f:spec", "f:paused"]),
        held_label: owns(&["f:metadata", "f:labels", &label]),
    }
}

/// Returns whether a manifest that client-side apply kept pauses the Deployment, and is no copy of a held one.
pub fn manifest_pauses(manifest: &str) -> bool {
    let Ok(Manifest { metadata, spec }) = serde_json::from_str(manifest) else {
        return false;
    };
    let labels = metadata.and_then(|metadata| metadata.labels);
    let held = labels.and_then(|labels| labels.held);
    let is_copy = held.as_deref() == Some(HELD_VALUE);
    spec.and_then(|spec| spec.paused).unwrap_or(false) && !is_copy
}

/// The fields of an applied manifest that decide. No others are read: any user who may edit the Deployment may have written it,
/// and of three bytes for an empty container, a full read makes a kilobyte.
#[derive(Deserialize)]
struct Manifest {
    metadata: Option<ManifestMetadata>,
    spec: Option<ManifestSpec>,
}

#[derive(Deserialize)]
struct ManifestMetadata {
    labels: Option<ManifestLabels>,
}

#[derive(Deserialize)]
struct ManifestLabels {
    #[serde(rename = "headstart.dev/held")]
    held: Option<String>,
}

#[derive(Deserialize)]
struct ManifestSpec {
    paused: Option<bool>,
}
