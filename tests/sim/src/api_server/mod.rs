//! An API server, as far as headstart, kubelets and users of Deployments need one: objects with versions and UIDs,
//! preconditions, quota on pods, field owners of `spec.paused`, and a log of changes for watches.

mod changes;
pub mod http;
mod managed_fields;
mod object;
mod selection;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use json_patch::merge;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub use object::{Kind, Object, ObjectKey};
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
    /// The new version; the last one if the object is gone.
    pub object: Arc<Object>,
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
    /// The most pods in each namespace.
    pub quota: BTreeMap<String, usize>,
}

/// Preconditions of a delete.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// Only this object, not a later one by the same name.
    pub uid: Option<String>,
    /// Only this version.
    pub resource_version: Option<String>,
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
        if self.objects.contains_key(&key) {
            return Err(Status::already_exists(&key));
        }
        if kind == Kind::Pod {
            self.check_quota(&key)?;
        }
        self.uids += 1;
        let metadata = &mut value["metadata"];
        metadata["uid"] = json!(format!("{}-{}", kind.resource(), self.uids));
        metadata["creationTimestamp"] = json!(self.now.1);
        if kind == Kind::Deployment {
            metadata["generation"] = json!(1);
            managed_fields::on_write(&mut sent, &Value::Null, manager);
            managed_fields::on_write(&mut value, &sent, "");
        }
        Ok(self.commit(key, value))
    }

    fn check_quota(&self, key: &ObjectKey) -> Result<(), Status> {
        let Some(most) = self.quota.get(&key.namespace) else {
            return Ok(());
        };
        let pods = self.list_in(Kind::Pod, &key.namespace);
        let used = pods.filter(|(_, pod)| !is_finished(&pod.value)).count();
        if used < *most {
            return Ok(());
        }
        let why = format!(
            "exceeded quota: pods, requested: pods=1, used: pods={used}, limited: pods={most}"
        );
        Err(Status::forbidden(key, &why))
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
        let version = patch["metadata"]["resourceVersion"].as_str();
        if version.is_some_and(|version| version != before.metadata("resourceVersion")) {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Status::conflict(key, why));
        }
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
        (sent, mut value): (Value, Value),
        manager: &str,
    ) -> Result<Arc<Object>, Status> {
        let before = self.get(key)?;
        let version = sent["metadata"]["resourceVersion"].as_str();
        if version.is_some_and(|version| version != before.metadata("resourceVersion")) {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Status::conflict(key, why));
        }
        for field in ["uid", "creationTimestamp", "generation", "managedFields"] {
            value["metadata"][field] = before.value["metadata"][field].clone();
        }
        value["status"] = before.value["status"].clone();
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
        value["metadata"]["resourceVersion"] = before.value["metadata"]["resourceVersion"].clone();
        if key.kind == Kind::Deployment {
            if value["spec"] != before.value["spec"] {
                let generation = before.value["metadata"]["generation"].as_u64().unwrap_or(0);
                value["metadata"]["generation"] = json!(generation + 1);
            }
            managed_fields::on_write(&mut sent, &before.value, manager);
            managed_fields::on_write(&mut value, &sent, "");
        }
        if value == before.value {
            return before.clone();
        }
        self.commit(key.clone(), value)
    }

    /// Removes an object.
    ///
    /// # Errors
    /// 404, and 409 if it is not the one that the preconditions name.
    pub fn delete(&mut self, key: &ObjectKey, only: &Preconditions) -> Result<Arc<Object>, Status> {
        let object = self.get(key)?;
        let differs = |wanted: &Option<String>, field: &str| {
            let found = object.metadata(field);
            let wanted = wanted.as_deref().filter(|wanted| *wanted != found)?;
            Some(format!(
                "the {} in the precondition ({wanted}) does not match the {} in record ({found}). \
                 The object might have been deleted and then recreated",
                if field == "uid" {
                    "UID"
                } else {
                    "ResourceVersion"
                },
                if field == "uid" {
                    "UID"
                } else {
                    "ResourceVersion"
                },
            ))
        };
        let version = differs(&only.resource_version, "resourceVersion");
        if let Some(why) = differs(&only.uid, "uid").or(version) {
            return Err(Status::conflict(
                key,
                &format!("Precondition failed: {why}"),
            ));
        }
        self.objects.remove(key);
        self.revision += 1;
        self.record(key, object.clone(), true);
        Ok(object)
    }

    fn commit(&mut self, key: ObjectKey, mut value: Value) -> Arc<Object> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(Object::new(value));
        self.objects.insert(key.clone(), object.clone());
        self.record(&key, object.clone(), false);
        object
    }

    fn record(&mut self, key: &ObjectKey, object: Arc<Object>, deleted: bool) {
        self.log[key.kind.index()].push(LogEntry {
            at: self.now.0,
            revision: self.revision,
            key: key.clone(),
            object,
            deleted,
        });
    }
}

/// Returns whether a pod has ended.
pub fn is_finished(pod: &Value) -> bool {
    matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    )
}
