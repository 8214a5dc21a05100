//! Refusals of the API server.

use serde_json::{Value, json};

use super::object::ObjectKey;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The HTTP status.
    pub code: u16,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

impl Status {
    /// No such object.
    pub fn not_found(key: &ObjectKey) -> Self {
        let (resource, name) = (key.kind.qualified(), &key.name);
        Self {
            code: 404,
            reason: "NotFound",
            message: format!("{resource} {name:?} not found"),
        }
    }

    /// The namespace of a new object does not exist.
    pub fn no_namespace(namespace: &str) -> Self {
        Self {
            code: 404,
            reason: "NotFound",
            message: format!("namespaces {namespace:?} not found"),
        }
    }

    /// The path names no resource.
    pub fn no_such_resource() -> Self {
        Self {
            code: 404,
            reason: "NotFound",
            message: "the server could not find the requested resource".to_owned(),
        }
    }

    /// There is such an object already.
    pub fn already_exists(key: &ObjectKey) -> Self {
        let (resource, name) = (key.kind.qualified(), &key.name);
        Self {
            code: 409,
            reason: "AlreadyExists",
            message: format!("{resource} {name:?} already exists"),
        }
    }

    /// There is such an object still, which is being deleted.
    pub fn is_being_deleted(key: &ObjectKey) -> Self {
        let Self { message, .. } = Self::already_exists(key);
        Self {
            message: format!("object is being deleted: {message}"),
            ..Self::already_exists(key)
        }
    }

    /// The object has another version or UID than the preconditions of a delete.
    pub fn precondition(key: &ObjectKey, why: &str) -> Self {
        let (kind, name) = (key.kind.qualified_kind(), &key.name);
        Self {
            code: 409,
            reason: "Conflict",
            message: format!("Operation cannot be fulfilled on {kind} {name:?}: {why}"),
        }
    }

    /// The object has another version or UID than the write says.
    pub fn conflict(key: &ObjectKey, why: &str) -> Self {
        let (resource, name) = (key.kind.qualified(), &key.name);
        Self {
            code: 409,
            reason: "Conflict",
            message: format!("Operation cannot be fulfilled on {resource} {name:?}: {why}"),
        }
    }

    /// Quota or a policy refuses the object.
    pub fn forbidden(key: &ObjectKey, why: &str) -> Self {
        let (resource, name) = (key.kind.qualified(), &key.name);
        Self {
            code: 403,
            reason: "Forbidden",
            message: format!("{resource} {name:?} is forbidden: {why}"),
        }
    }

    /// The object is not valid.
    pub fn invalid(key: &ObjectKey, why: &str) -> Self {
        Self {
            code: 422,
            reason: "Invalid",
            message: format!(
                "{} {:?} is invalid: {why}",
                key.kind.qualified_kind(),
                key.name
            ),
        }
    }

    /// Too many requests.
    pub fn too_many_requests() -> Self {
        Self {
            code: 429,
            reason: "TooManyRequests",
            message: "the server has received too many requests".to_owned(),
        }
    }

    /// A failure inside the API server.
    pub fn internal() -> Self {
        Self {
            code: 500,
            reason: "InternalError",
            message: "etcdserver: leader changed".to_owned(),
        }
    }

    /// The API server is about to stop, or cannot reach etcd.
    pub fn unavailable() -> Self {
        Self {
            code: 503,
            reason: "ServiceUnavailable",
            message: "the server is currently unable to handle the request".to_owned(),
        }
    }

    /// The changes since a version are forgotten.
    pub fn expired(version: u64, oldest: u64) -> Self {
        Self {
            code: 410,
            reason: "Expired",
            message: format!("too old resource version: {version} ({oldest})"),
        }
    }

    /// Returns the refusal as the API server answers it.
    pub fn to_json(&self) -> Value {
        let Self {
            code,
            reason,
            message,
        } = self;
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        })
    }
}
