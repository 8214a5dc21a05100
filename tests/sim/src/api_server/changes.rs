//! The answers to watches: the changes of a kind since a version, as the API server sends them.

use serde_json::{Value, json};

use super::{ApiServer, Kind, ObjectKey, Selection, Status};

impl ApiServer {
    /// Returns the version of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Forgets the changes so far: a watch that goes on from an earlier one has to list anew.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
    }

    /// Returns where the changes of a kind go on after a version.
    ///
    /// # Errors
    /// 410 if they are forgotten.
    pub fn position_after(&self, kind: Kind, version: u64) -> Result<usize, Status> {
        if version < self.compacted {
            return Err(Status::expired(version, self.compacted));
        }
        let log = &self.log[kind.index()];
        Ok(log.partition_point(|entry| entry.revision <= version))
    }

    /// Returns the changes that a watch asks for, from a position of the log.
    pub fn events_from(&self, position: usize, wanted: &Selection) -> Vec<Value> {
        let changes = self.log[wanted.key.kind.index()].iter().skip(position);
        let changes = changes.filter(|entry| wanted.matches(&entry.key, &entry.object.value));
        changes
            .map(|entry| {
                let mut object = typed(&entry.key, &entry.object.value);
                object["metadata"]["resourceVersion"] = json!(entry.revision.to_string());
                let kind = match (entry.created, entry.deleted) {
                    (_, true) => "DELETED",
                    (true, false) => "ADDED",
                    (false, false) => "MODIFIED",
                };
                json!({"type": kind, "object": object})
            })
            .collect()
    }

    /// Returns the objects that a watch begins with. With `bookmark` it ends them by one, which says that they are complete.
    pub fn initial_events(&self, wanted: &Selection, bookmark: bool) -> Vec<Value> {
        let objects = self.list(wanted.key.kind);
        let objects = objects.filter(|(key, object)| wanted.matches(key, &object.value));
        let added = |(key, object): (&ObjectKey, &std::sync::Arc<super::Object>)| json!({"type": "ADDED", "object": typed(key, &object.value)});
        let mut events: Vec<Value> = objects.map(added).collect();
        if bookmark {
            let (version, kind) = wanted.key.kind.api();
            events.push(json!({"type": "BOOKMARK", "object": {
                "apiVersion": version, "kind": kind,
                "metadata": {
                    "resourceVersion": self.revision.to_string(),
                    "annotations": {"k8s.io/initial-events-end": "true"},
                },
            }}));
        }
        events
    }
}

/// Returns an object with its kind, as the API server sends it.
pub(super) fn typed(key: &ObjectKey, object: &Value) -> Value {
    let (version, kind) = key.kind.api();
    let mut object = object.clone();
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object
}
