//! The owners of `spec.paused` and of the mark of a hold, as `metadata.managedFields` has them.
//!
//! A manager owns a field that it has changed, until another manager changes or removes it. A field that an admission webhook sets has
//! no owner; the simulated webhook runs under an empty manager.

use headstart_core::api::well_known::HELD_LABEL;
use serde_json::{Value, json};

/// The fields whose owners are kept, each with its place in an object and in `fieldsV1`.
fn fields() -> [([&'static str; 3], Value); 2] {
    let label = format!("f:{HELD_LABEL}");
    [
        (["spec", "paused", ""], json!({"f:spec": {"f:paused": {}}})),
        (
            ["metadata", "labels", HELD_LABEL],
            json!({"f:metadata": {"f:labels": {label: {}}}}),
        ),
    ]
}

fn at<'a>(object: &'a Value, path: &[&str; 3]) -> &'a Value {
    let found = path.iter().filter(|part| !part.is_empty());
    found.fold(object, |value, part| &value[*part])
}

/// Gives the fields that a write has changed to its manager.
pub(super) fn on_write(value: &mut Value, before: &Value, manager: &str) {
    let mut entries: Vec<Value> = before["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for (path, owned) in fields() {
        let (new, old) = (at(value, &path), at(before, &path));
        if new == old {
            continue;
        }
        // The path in a merge patch that removes the field from an entry.
        let mut removal = owned.clone();
        nullify(&mut removal);
        for entry in &mut entries {
            json_patch::merge(&mut entry["fieldsV1"], &removal);
        }
        if new.is_null() || manager.is_empty() {
            continue;
        }
        match entries.iter_mut().find(|entry| entry["manager"] == manager) {
            Some(entry) => json_patch::merge(&mut entry["fieldsV1"], &owned),
            None => entries.push(json!({
                "manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                "fieldsV1": owned,
            })),
        }
    }
    value["metadata"]["managedFields"] = json!(entries);
}

/// Replaces the innermost objects by null.
fn nullify(value: &mut Value) {
    match value {
        Value::Object(fields) if !fields.is_empty() => fields.values_mut().for_each(nullify),
        other => *other = Value::Null,
    }
}
