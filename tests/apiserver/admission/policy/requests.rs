//! Requests as data, so that one table can hold them all.

use kube::Client;
use serde_json::Value;

/// A request to the API server.
pub(super) struct Request {
    method: http::Method,
    path: String,
    content_type: &'static str,
    body: Value,
}

/// A request that a policy refuses.
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) request: Request,
    pub(super) policy: &'static str,
    /// A part of the policy's message.
    pub(super) message: &'static str,
}

impl Request {
    fn new(method: http::Method, path: &str, content_type: &'static str, body: Value) -> Self {
        let path = path.to_owned();
        Self {
            method,
            path,
            content_type,
            body,
        }
    }

    pub(super) fn get(path: &str) -> Self {
        Self::new(http::Method::GET, path, "application/json", Value::Null)
    }

    pub(super) fn post(path: &str, body: Value) -> Self {
        Self::new(http::Method::POST, path, "application/json", body)
    }

    pub(super) fn put(path: &str, body: Value) -> Self {
        Self::new(http::Method::PUT, path, "application/json", body)
    }

    /// A dry run. An API server that finds options in the body does not look into the query.
    pub(super) fn try_delete(path: &str) -> Self {
        Self::delete(path, serde_json::json!({ "dryRun": ["All"] }))
    }

    pub(super) fn delete(path: &str, options: Value) -> Self {
        Self::new(http::Method::DELETE, path, "application/json", options)
    }

    /// A JSON patch.
    pub(super) fn patch(path: &str, operations: Value) -> Self {
        let content_type = "application/json-patch+json";
        Self::new(http::Method::PATCH, path, content_type, operations)
    }

    /// A merge patch.
    pub(super) fn merge(path: &str, patch: Value) -> Self {
        let content_type = "application/merge-patch+json";
        Self::new(http::Method::PATCH, path, content_type, patch)
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) async fn send(&self, client: &Client) -> kube::Result<Value> {
        let body = match &self.body {
            Value::Null => Vec::new(),
            body => serde_json::to_vec(body).unwrap(),
        };
        let request = http::Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(http::header::CONTENT_TYPE, self.content_type)
            .body(body)
            .unwrap();
        client.request(request).await
    }
}

impl Refusal {
    pub(super) fn new(
        what: impl Into<String>,
        policy: &'static str,
        message: &'static str,
        request: Request,
    ) -> Self {
        Self {
            what: what.into(),
            request,
            policy,
            message,
        }
    }
}
