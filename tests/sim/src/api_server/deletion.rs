//! Deletes: preconditions, and pods that get time to end.

use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::{ApiServer, Kind, Object, ObjectKey, Status, is_finished};

/// How long a pod gets to end if it names no time.
const DEFAULT_GRACE: u64 = 30;

/// Preconditions of a delete.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// Only this object, not a later one by the same name.
    pub uid: Option<String>,
    /// Only this version.
    pub resource_version: Option<String>,
}

impl Preconditions {
    fn check(&self, key: &ObjectKey, object: &Object) -> Result<(), Status> {
        let version = object.metadata("resourceVersion");
        let fields = [
            ("UID", &self.uid, object.uid(), "deleted and then recreated"),
            (
                "ResourceVersion",
                &self.resource_version,
                version,
                "modified",
            ),
        ];
        for (field, wanted, found, happened) in fields {
            let wanted = wanted.as_deref().filter(|wanted| *wanted != found);
            if let Some(wanted) = wanted {
                let why = format!(
                    "the {field} in the precondition ({wanted}) does not match the {field} in record ({found}). \
                     The object might have been {happened}"
                );
                return Err(Status::precondition(key, &why));
            }
        }
        Ok(())
    }
}

impl ApiServer {
    /// Deletes an object. A pod that runs gets the time that it names; its kubelet removes it.
    ///
    /// # Errors
    /// 404, and 409 if it is not the one that the preconditions name.
    pub fn delete(&mut self, key: &ObjectKey, only: &Preconditions) -> Result<Arc<Object>, Status> {
        self.delete_within(key, only, None)
    }

    /// Deletes an object. A pod that runs gets so many seconds.
    ///
    /// # Errors
    /// 404, and 409 if it is not the one that the preconditions name.
    pub fn delete_within(
        &mut self,
        key: &ObjectKey,
        only: &Preconditions,
        grace: Option<u64>,
    ) -> Result<Arc<Object>, Status> {
        let object = self.get(key)?;
        only.check(key, &object)?;
        if key.kind != Kind::Pod {
            return Ok(self.remove(key, &object));
        }
        let grace = grace_of(&object.value, grace);
        let left = object.value["metadata"]["deletionGracePeriodSeconds"].as_u64();
        // A time can only be shortened.
        if left.is_some_and(|left| left <= grace) {
            return Ok(object);
        }
        let mut value = object.value.clone();
        let seconds = SignedDuration::from_secs(i64::try_from(grace).unwrap_or(0));
        let end = self.now.1.saturating_add(seconds).unwrap_or_default();
        value["metadata"]["deletionTimestamp"] = json!(end);
        value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        let ending = self.commit(key.clone(), value);
        // A pod without time is seen to end, too, before it is gone.
        Ok(if grace == 0 {
            self.remove(key, &ending)
        } else {
            ending
        })
    }

    fn remove(&mut self, key: &ObjectKey, object: &Object) -> Arc<Object> {
        let mut value = object.value.clone();
        self.objects.remove(key);
        self.revision += 1;
        value["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let gone = Arc::new(Object::new(value));
        self.record(key, gone.clone(), (false, true));
        gone
    }
}

/// Returns how many seconds a pod gets: none if it is on no node, or has ended.
fn grace_of(pod: &Value, asked: Option<u64>) -> u64 {
    if pod["spec"]["nodeName"].is_null() || is_finished(pod) {
        return 0;
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_u64();
    asked.or(own).unwrap_or(DEFAULT_GRACE)
}
