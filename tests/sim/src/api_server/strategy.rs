//! The rules of each kind for creates and updates: what is valid, and which fields the API server sets itself.

use serde_json::{Value, json};

use super::{Kind, ObjectKey, Status};

/// Metadata that only the API server sets.
const OWN_METADATA: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Checks a new object, as far as the simulator could make a wrong one.
///
/// # Errors
/// 422.
pub(super) fn validate(key: &ObjectKey, value: &Value) -> Result<(), Status> {
    let spec = &value["spec"];
    let gated = spec["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty());
    if key.kind == Kind::Pod && gated && spec["nodeName"].is_string() {
        let why =
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared";
        return Err(Status::invalid(key, why));
    }
    Ok(())
}

/// Sets what a new object has, whatever its sender says.
pub(super) fn before_create(kind: Kind, value: &mut Value) {
    set_defaults(kind, value);
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for field in OWN_METADATA {
            metadata.remove(field);
        }
    }
    let status = match kind {
        // Kubelets create their nodes with a status.
        Kind::Node
        | Kind::ResourceQuota
        | Kind::LimitRange
        | Kind::ServiceAccount
        | Kind::Lease
        | Kind::Event => return,
        Kind::Namespace => json!({"phase": "Active"}),
        Kind::Deployment => json!({}),
        Kind::Pod => json!({"phase": "Pending"}),
    };
    value["status"] = status;
}

/// Sets what an update leaves as it is, and the generation.
pub(super) fn before_update(kind: Kind, value: &mut Value, before: &Value) {
    set_defaults(kind, value);
    for field in OWN_METADATA {
        match before["metadata"].get(field) {
            Some(kept) => value["metadata"][field] = kept.clone(),
            None => {
                if let Some(metadata) = value["metadata"].as_object_mut() {
                    metadata.remove(field);
                }
            }
        }
    }
    match before.get("status") {
        Some(status) => value["status"] = status.clone(),
        None => {
            if let Some(value) = value.as_object_mut() {
                value.remove("status");
            }
        }
    }
    // Annotations count: the Deployment controller copies them to the ReplicaSets.
    let annotations = |object: &Value| {
        let annotations = object["metadata"]["annotations"].as_object();
        annotations.cloned().unwrap_or_default()
    };
    if kind == Kind::Deployment
        && (value["spec"] != before["spec"] || annotations(value) != annotations(before))
    {
        let generation = before["metadata"]["generation"].as_u64().unwrap_or(0);
        value["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Writes a field that has its default as the API server does: a Deployment that is not paused has no `paused`.
fn set_defaults(kind: Kind, value: &mut Value) {
    if kind == Kind::Deployment
        && matches!(value["spec"]["paused"], Value::Bool(false) | Value::Null)
        && let Some(spec) = value["spec"].as_object_mut()
    {
        spec.remove("paused");
    }
}
