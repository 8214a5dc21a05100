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
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    /// No such object.
    pub fn not_found(key: &ObjectKey) -> Self {
        let (resource, name) = (key.kind.qualified(), &key.name);
        Self::new(404, "NotFound", format!("{resource} {name:?} not found"))
    }

    /// The namespace of a new object does not exist.
    pub fn no_namespace(namespace: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("namespaces {namespace:?} not found"),
        )
    }

    /// The path names no resource.
    pub fn no_such_resource() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    /// There is such an object already.
    pub fn already_exists(key: &ObjectKey) -> Self {
        let (resource, name) = (key.kind.qualified(), &key.name);
        Self::new(
            409,
            "AlreadyExists",
            format!("{resource} {name:?} already exists"),
        )
    }

    /// There is such an object still, which is being deleted.
    pub fn is_being_deleted(key: &ObjectKey) -> Self {
        let mut status = Self::already_exists(key);
        status.message.insert_str(0, "object is being deleted: ");
        status
    }

    /// The object has another version or UID than the preconditions of a delete.
    pub fn precondition(key: &ObjectKey, why: &str) -> Self {
        let (kind, name) = (key.kind.qualified_kind(), &key.name);
        Self::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {kind} {name:?}: {why}"),
        )
    }

    /// The object has another version or UID than the write says.
    pub fn conflict(key: &ObjectKey, why: &str) -> Self {
        let (resource, name) = (key.kind.qualified(), &key.name);
        Self::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {resource} {name:?}: {why}"),
        )
    }

    /// Quota or a policy refuses the object.
    pub fn forbidden(key: &ObjectKey, why: &str) -> Self {
        let (resource, name) = (key.kind.qualified(), &key.name);
        Self::new(
            403,
            "Forbidden",
            format!("{resource} {name:?} is forbidden: {why}"),
        )
    }

    /// The object is not valid.
    pub fn invalid(key: &ObjectKey, why: &str) -> Self {
        Self::new(
            422,
            "Invalid",
            format!(
                "{} {:?} is invalid: {why}",
                key.kind.qualified_kind(),
                key.name
            ),
        )
    }

    /// The resource has no such method.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// Too many requests.
    pub fn too_many_requests() -> Self {
        Self::new(
            429,
            "TooManyRequests",
            "the server has received too many requests",
        )
    }

    /// A failure inside the API server.
    pub fn internal() -> Self {
        Self::new(500, "InternalError", "etcdserver: leader changed")
    }

    /// The API server is about to stop, or cannot reach etcd.
    pub fn unavailable() -> Self {
        Self::new(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        )
    }

    /// The changes since a version are forgotten.
    pub fn expired(version: u64, oldest: u64) -> Self {
        Self::new(
            410,
            "Expired",
            format!("too old resource version: {version} ({oldest})"),
        )
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
