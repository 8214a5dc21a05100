//! The patch that begins, extends or ends a hold.
//!
//! A patch that does not apply fails the user's write, whatever the failure policy is. So it is made from the received object,
//! applied here first, and not sent if that fails.

use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, patch};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use headstart_core::api::hold_mark::is_mark;
use headstart_core::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL, HELD_VALUE};

/// The part of an object that a patch touches.
#[derive(Clone, Debug, Default)]
pub(super) struct PatchBase {
    /// headstart's own labels, `None` if the object has no labels at all.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// headstart's own annotations, likewise.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// `spec.paused`, if it is there.
    pub(super) paused: Option<bool>,
}

impl PatchBase {
    /// Pauses the rollout and marks it as held.
    pub(super) fn hold_patch(&self, since: Timestamp, until: Timestamp) -> Option<Patch> {
        let mut operations = Vec::new();
        if self.paused != Some(true) {
            operations.push(add(&["spec", "paused"], json!(true)));
        }
        let marks = [(HELD_LABEL, HELD_VALUE.to_owned())];
        operations.extend(set("labels", self.labels.as_ref(), &marks));
        let marks = [
            (HELD_SINCE, since.to_string()),
            (HELD_UNTIL, until.to_string()),
        ];
        operations.extend(set("annotations", self.annotations.as_ref(), &marks));
        self.apply_check(operations)
    }

    /// Resumes the rollout and removes the marks; with `keep_pause`, only removes the marks, because another client pauses it.
    pub(super) fn release_patch(&self, keep_pause: bool) -> Option<Patch> {
        let mut operations = Vec::new();
        if self.paused == Some(true) && !keep_pause {
            operations.push(remove(&["spec", "paused"]));
        }
        let maps = [("labels", &self.labels), ("annotations", &self.annotations)];
        for (map, own) in maps {
            let keys = own.iter().flat_map(BTreeMap::keys);
            let marks = keys.filter(|key| is_mark(key));
            operations.extend(marks.map(|key| remove(&["metadata", map, key])));
        }
        self.apply_check(operations)
    }

    /// Returns `None` if there is nothing to change, or the patch does not apply.
    fn apply_check(&self, operations: Vec<PatchOperation>) -> Option<Patch> {
        if operations.is_empty() {
            return None;
        }
        let operations = Patch(operations);
        let mut object = self.object();
        match patch(&mut object, &operations) {
            Ok(()) => Some(operations),
            Err(error) => {
                tracing::error!(%error, "a patch does not apply, and is not sent");
                None
            }
        }
    }

    /// Returns the part of the object that patches touch.
    fn object(&self) -> Value {
        let mut object = json!({ "metadata": {}, "spec": {} });
        if let Some(labels) = &self.labels {
            object["metadata"]["labels"] = json!(labels);
        }
        if let Some(annotations) = &self.annotations {
            object["metadata"]["annotations"] = json!(annotations);
        }
        if let Some(paused) = self.paused {
            object["spec"]["paused"] = json!(paused);
        }
        object
    }
}

/// Sets entries of a map in the metadata. The map may be missing, and then an `add` of a single entry would not apply.
fn set(
    map: &str,
    present: Option<&BTreeMap<String, String>>,
    entries: &[(&str, String)],
) -> Vec<PatchOperation> {
    let Some(present) = present else {
        let entries: BTreeMap<_, _> = entries.iter().cloned().collect();
        return vec![add(&["metadata", map], json!(entries))];
    };
    let missing = entries
        .iter()
        .filter(|(key, value)| present.get(*key) != Some(value));
    missing
        .map(|(key, value)| add(&["metadata", map, key], json!(value)))
        .collect()
}

fn add(path: &[&str], value: Value) -> PatchOperation {
    let path = PointerBuf::from_tokens(path.iter().copied());
    PatchOperation::Add(AddOperation { path, value })
}

fn remove(path: &[&str]) -> PatchOperation {
    let path = PointerBuf::from_tokens(path.iter().copied());
    PatchOperation::Remove(RemoveOperation { path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base(object: &Value) -> PatchBase {
        let map = |name: &str| {
            let map = object["metadata"].get(name)?.as_object()?.clone();
            let text = |(key, value): (String, Value)| (key, value.as_str().unwrap().to_owned());
            Some(map.into_iter().map(text).collect())
        };
        PatchBase {
            labels: map("labels"),
            annotations: map("annotations"),
            paused: object["spec"].get("paused").and_then(Value::as_bool),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn held() -> Value {
        json!({
            "metadata": {
                "labels": { HELD_LABEL: "true" },
                "annotations": { HELD_SINCE: "1970-01-01T00:00:10Z", HELD_UNTIL: "1970-01-01T00:01:00Z" },
            },
            "spec": { "paused": true },
        })
    }

    fn patched(object: &Value, operations: Option<Patch>) -> Value {
        let mut object = object.clone();
        if let Some(operations) = operations {
            patch(&mut object, &operations).unwrap();
        }
        object
    }

    #[test]
    fn a_hold_goes_onto_an_object_without_maps() {
        let object = json!({ "metadata": { "name": "web" }, "spec": {} });
        let patch = base(&object).hold_patch(at(10), at(60));
        let mut wanted = held();
        wanted["metadata"]["name"] = json!("web");
        assert_eq!(patched(&object, patch), wanted);
    }

    #[test]
    fn what_is_held_already_needs_no_patch() {
        assert!(base(&held()).hold_patch(at(10), at(60)).is_none());
        assert!(base(&json!({"spec": {}})).release_patch(false).is_none());
    }

    #[test]
    fn a_hold_ends_with_the_marks_of_other_versions_too() {
        let mut object = held();
        let later = json!({
            "metadata": {
                "labels": { "headstart.dev/held-by": "a", "headstart.dev/prefetch": "hold" },
                "annotations": { "headstart.dev/held-x": "b", "headstart.dev/hold-until": "90%" },
            },
        });
        json_patch::merge(&mut object, &later);
        let extended = patched(&object, base(&object).hold_patch(at(10), at(90)));
        assert_eq!(
            extended["metadata"]["annotations"]["headstart.dev/held-x"],
            "b"
        );
        let ended = patched(&object, base(&object).release_patch(false));
        let wanted = json!({
            "metadata": {
                "labels": { "headstart.dev/prefetch": "hold" },
                "annotations": { "headstart.dev/hold-until": "90%" },
            },
            "spec": {},
        });
        assert_eq!(ended, wanted);
    }

    fn optional_map(own: &'static [&'static str]) -> impl Strategy<Value = Option<Value>> {
        let keys = prop::sample::subsequence(own, 0..=own.len());
        let others = prop::collection::btree_map("[a-z~/]{1,6}", "[a-z]{0,3}", 0..3);
        prop::option::of((keys, others).prop_map(|(keys, others)| {
            let mut map: serde_json::Map<String, Value> =
                others.into_iter().map(|(k, v)| (k, json!(v))).collect();
            map.extend(keys.into_iter().map(|key| (key.to_owned(), json!("x"))));
            Value::Object(map)
        }))
    }

    proptest! {
        /// A hold can be put on and taken off any object, and leaves the rest of it unchanged.
        #[test]
        fn a_hold_leaves_no_trace(
            labels in optional_map(&[HELD_LABEL]),
            annotations in optional_map(&[HELD_SINCE, HELD_UNTIL]),
            paused in prop::option::of(any::<bool>()),
        ) {
            let mut object = json!({ "metadata": { "name": "web" }, "spec": { "replicas": 3 } });
            for (map, content) in [("labels", labels), ("annotations", annotations)] {
                if let Some(content) = content {
                    object["metadata"][map] = content;
                }
            }
            if let Some(paused) = paused {
                object["spec"]["paused"] = json!(paused);
            }
            let on = patched(&object, base(&object).hold_patch(at(10), at(60)));
            prop_assert_eq!(&on["metadata"]["labels"][HELD_LABEL], "true");
            prop_assert_eq!(&on["metadata"]["annotations"][HELD_UNTIL], "1970-01-01T00:01:00Z");
            prop_assert_eq!(&on["spec"]["paused"], true);
            let off = patched(&on, base(&on).release_patch(false));
            let mut wanted = object;
            for (map, keys) in [("labels", &[HELD_LABEL][..]), ("annotations", &[HELD_SINCE, HELD_UNTIL])] {
                let metadata = wanted["metadata"].as_object_mut().unwrap();
                let content = metadata.entry(map).or_insert_with(|| json!({})).as_object_mut().unwrap();
                content.retain(|key, _| !keys.contains(&key.as_str()));
            }
            wanted["spec"].as_object_mut().unwrap().remove("paused");
            prop_assert_eq!(off, wanted);
        }
    }
}
