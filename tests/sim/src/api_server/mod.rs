//! An API server, as far as headstart, kubelets and users of Deployments need one: objects with versions and UIDs,
//! preconditions, quota on pods, field owners of `spec.paused`, and a log of changes for watches.
//!
//! [`crate::conformance`] compares it with a real one.

mod changes;
mod deletion;
pub mod http;
mod managed_fields;
mod object;
mod quota;
mod selection;
mod status;
mod strategy;

use std::collections::BTreeMap;
use std::sync::Arc;

use json_patch::merge;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub use deletion::Preconditions;
pub use object::{Kind, Object, ObjectKey};
pub use quota::Quota;
pub use selection::Selection;
pub use status::Status;

/// A change of an object.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// When it was stored, in milliseconds.
    pub at: u64,
    /// The resourceVersion of the change.
    pub revision: u64,
    /// The object.
    pub key: ObjectKey,
    /// The new version; the last one, with the version of the delete, if the object is gone.
    pub object: Arc<Object>,
    /// True if the object was not there before.
    pub created: bool,
    /// True if the object is gone.
    pub deleted: bool,
}

/// The API server and what it stores.
#[derive(Debug, Default)]
pub struct ApiServer {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// The changes of each kind, oldest first.
    pub log: [Vec<LogEntry>; Kind::ALL.len()],
    revision: u64,
    /// The changes up to this one are forgotten.
    compacted: u64,
    uids: u64,
    /// The time in milliseconds, and by the wall clock.
    pub now: (u64, Timestamp),
    /// The quota on pods of each namespace.
    pub quota: BTreeMap<String, Quota>,
    /// The pods of rollouts in each namespace, which are not stored.
    pub rollout_pods: BTreeMap<String, usize>,
}

impl ApiServer {
    /// Returns an object.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, key: &ObjectKey) -> Result<Arc<Object>, Status> {
        let found = self.objects.get(key).cloned();
        found.ok_or_else(|| Status::not_found(key))
    }

    /// Returns all objects of a kind, in the order of their names.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = (&ObjectKey, &Arc<Object>)> {
        let first = ObjectKey::new(kind, "", "");
        let objects = self.objects.range(first..);
        objects.take_while(move |(key, _)| key.kind == kind)
    }

    /// Returns the objects of a kind in a namespace.
    pub fn list_in(
        &self,
        kind: Kind,
        namespace: &str,
    ) -> impl Iterator<Item = (&ObjectKey, &Arc<Object>)> {
        let first = ObjectKey::new(kind, namespace, "");
        let namespace = namespace.to_owned();
        let objects = self.objects.range(first..);
        objects.take_while(move |(key, _)| key.kind == kind && key.namespace == namespace)
    }

    /// Stores a new object.
    ///
    /// # Errors
    /// 403, 404, 409, 422.
    pub fn create(
        &mut self,
        kind: Kind,
        value: Value,
        manager: &str,
    ) -> Result<Arc<Object>, Status> {
        let admitted = value.clone();
        self.create_admitted(kind, (value, admitted), manager)
    }

    /// Stores a new object as admission has changed it. `manager` owns the fields that it sets; what admission sets, no manager
    /// owns.
    ///
    /// # Errors
    /// 403, 404, 409, 422.
    pub fn create_admitted(
        &mut self,
        kind: Kind,
        (mut sent, mut value): (Value, Value),
        manager: &str,
    ) -> Result<Arc<Object>, Status> {
        let text = |value: &Value, field: &str| {
            let text = value["metadata"][field].as_str();
            text.unwrap_or_default().to_owned()
        };
        let key = ObjectKey {
            kind,
            namespace: text(&value, "namespace"),
            name: text(&value, "name"),
        };
        if key.name.is_empty() {
            return Err(Status::invalid(
                &key,
                "metadata.name: Required value: name or generateName is required",
            ));
        }
        if kind.is_namespaced() {
            let namespace = ObjectKey::new(Kind::Namespace, "", &key.namespace);
            if !self.objects.contains_key(&namespace) {
                return Err(Status::no_namespace(&key.namespace));
            }
        }
        strategy::validate(&key, &value)?;
        // Quota is part of admission, and the name is looked up only then.
        if kind == Kind::Pod {
            self.check_quota(&key)?;
        }
        match self.objects.get(&key) {
            Some(found) if is_terminating(&found.value) => {
                return Err(Status::is_being_deleted(&key));
            }
            Some(_) => return Err(Status::already_exists(&key)),
            None => {}
        }
        strategy::before_create(kind, &mut sent);
        strategy::before_create(kind, &mut value);
        self.uids += 1;
        let metadata = &mut value["metadata"];
        metadata["uid"] = json!(format!("{}-{}", kind.resource(), self.uids));
        metadata["creationTimestamp"] = json!(self.now.1);
        if kind == Kind::Deployment {
            metadata["generation"] = json!(1);
            managed_fields::on_write(&mut sent, &Value::Null, manager);
            managed_fields::on_write(&mut value, &sent, "");
        }
        if kind == Kind::Pod {
            // Admission counts the pod before it is stored.
            self.report_quota(&key.namespace, 1);
        }
        Ok(self.commit(key, value))
    }

    fn check_quota(&self, key: &ObjectKey) -> Result<(), Status> {
        let refusal = self.refusal_by_quota(&key.namespace);
        refusal.map_or(Ok(()), |why| Err(Status::forbidden(key, &why)))
    }

    /// Changes an object by a merge patch. With `metadata.resourceVersion` in it, only that version.
    ///
    /// # Errors
    /// 404, 409.
    pub fn patch(
        &mut self,
        key: &ObjectKey,
        patch: &Value,
        manager: &str,
    ) -> Result<Arc<Object>, Status> {
        let before = self.get(key)?;
        check_version(key, patch, &before)?;
        let mut value = before.value.clone();
        merge(&mut value, patch);
        let sent = value.clone();
        Ok(self.replace_value(key, &before, (sent, value), manager))
    }

    /// Replaces an object but its status. Without a version in it, any version.
    ///
    /// # Errors
    /// 404, 409.
    pub fn update(
        &mut self,
        key: &ObjectKey,
        value: Value,
        manager: &str,
    ) -> Result<Arc<Object>, Status> {
        let admitted = value.clone();
        self.update_admitted(key, (value, admitted), manager)
    }

    /// Replaces an object by one that admission has changed.
    ///
    /// # Errors
    /// 404, 409.
    pub fn update_admitted(
        &mut self,
        key: &ObjectKey,
        (sent, value): (Value, Value),
        manager: &str,
    ) -> Result<Arc<Object>, Status> {
        let before = self.get(key)?;
        let uid = sent["metadata"]["uid"].as_str();
        if let Some(uid) = uid.filter(|uid| *uid != before.uid()) {
            let found = before.uid();
            let (resource, namespace, name) = (key.kind.resource(), &key.namespace, &key.name);
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/{resource}/{namespace}/{name}, ResourceVersion: 0, \
                 AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
            );
            return Err(Status::conflict(key, &why));
        }
        check_version(key, &sent, &before)?;
        Ok(self.replace_value(key, &before, (sent, value), manager))
    }

    /// Changes the status of an object by a merge patch.
    ///
    /// # Errors
    /// 404.
    pub fn patch_status(&mut self, key: &ObjectKey, status: &Value) -> Result<Arc<Object>, Status> {
        let before = self.get(key)?;
        let mut value = before.value.clone();
        merge(&mut value, &json!({ "status": status }));
        if value == before.value {
            return Ok(before);
        }
        Ok(self.commit(key.clone(), value))
    }

    fn replace_value(
        &mut self,
        key: &ObjectKey,
        before: &Arc<Object>,
        (mut sent, mut value): (Value, Value),
        manager: &str,
    ) -> Arc<Object> {
        strategy::before_update(key.kind, &mut sent, &before.value);
        strategy::before_update(key.kind, &mut value, &before.value);
        if key.kind == Kind::Deployment {
            managed_fields::on_write(&mut sent, &before.value, manager);
            managed_fields::on_write(&mut value, &sent, "");
        }
        if value == before.value {
            return before.clone();
        }
        self.commit(key.clone(), value)
    }

    fn commit(&mut self, key: ObjectKey, mut value: Value) -> Arc<Object> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(Object::new(value));
        let before = self.objects.insert(key.clone(), object.clone());
        self.record(&key, object.clone(), (before.is_none(), false));
        object
    }

    fn record(&mut self, key: &ObjectKey, object: Arc<Object>, (created, deleted): (bool, bool)) {
        self.log[key.kind.index()].push(LogEntry {
            at: self.now.0,
            revision: self.revision,
            key: key.clone(),
            object,
            created,
            deleted,
        });
    }
}

/// Checks the version that a write names, if it names one.
fn check_version(key: &ObjectKey, sent: &Value, before: &Object) -> Result<(), Status> {
    let version = sent["metadata"]["resourceVersion"].as_str();
    if version.is_none_or(|version| version == before.metadata("resourceVersion")) {
        return Ok(());
    }
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Err(Status::conflict(key, why))
}

/// Returns whether a pod has ended.
pub fn is_finished(pod: &Value) -> bool {
    matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    )
}

/// Returns whether a pod has been deleted, and is not gone.
pub fn is_terminating(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}
