//! The API server's HTTP interface: the requests that headstart and the conformance script make.

use serde_json::{Value, json};

use super::{ApiServer, Kind, ObjectKey, Preconditions, Status};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// The path, without a query.
    pub path: String,
    /// The body; null if there is none. A patch is a merge patch.
    pub body: Value,
    /// The field manager of the write.
    pub manager: &'static str,
}

/// What a path names.
struct Target {
    key: ObjectKey,
    status: bool,
}

/// Returns what a path names: an object, or with an empty name all of a kind.
fn target(path: &str) -> Option<Target> {
    let path = path
        .strip_prefix("/apis/apps/v1/")
        .or(path.strip_prefix("/api/v1/"))?;
    let parts: Vec<&str> = path.split('/').collect();
    let (namespace, rest) = match parts.as_slice() {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (resource, rest) = rest.split_first()?;
    let kinds = [
        Kind::Namespace,
        Kind::Node,
        Kind::Deployment,
        Kind::Pod,
        Kind::ServiceAccount,
    ];
    let kind = kinds
        .into_iter()
        .find(|kind| kind.resource() == *resource)?;
    let name = rest.first().copied().unwrap_or_default();
    Some(Target {
        key: ObjectKey::new(kind, namespace, name),
        status: rest.get(1) == Some(&"status"),
    })
}

impl ApiServer {
    /// Answers a request: the status code, and the object or the refusal.
    pub fn handle(&mut self, request: &Request) -> (u16, Value) {
        let Some(target) = target(&request.path) else {
            let message = "the server could not find the requested resource".to_owned();
            let status = Status {
                code: 404,
                reason: "NotFound",
                message,
            };
            return (404, status.to_json());
        };
        let created = if request.method == "POST" { 201 } else { 200 };
        match self.answer(request, target) {
            Ok(object) => (created, object),
            Err(status) => (status.code, status.to_json()),
        }
    }

    fn answer(&mut self, request: &Request, target: Target) -> Result<Value, Status> {
        let Target { key, status } = target;
        let Request {
            method,
            body,
            manager,
            ..
        } = request;
        let object = match *method {
            "GET" if key.name.is_empty() => {
                let items = self.list_in(key.kind, &key.namespace);
                let items: Vec<&Value> = items.map(|(_, object)| &object.value).collect();
                let version = self.revision.to_string();
                return Ok(json!({"metadata": {"resourceVersion": version}, "items": items}));
            }
            "GET" => self.get(&key)?,
            "POST" => {
                let mut body = body.clone();
                if key.kind.is_namespaced() {
                    body["metadata"]["namespace"] = json!(key.namespace);
                }
                self.create(key.kind, body, manager)?
            }
            "PUT" => self.update(&key, body.clone(), manager)?,
            "PATCH" if status => self.patch_status(&key, &body["status"])?,
            "PATCH" => self.patch(&key, body, manager)?,
            "DELETE" => {
                let of = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
                let only = Preconditions {
                    uid: of("uid"),
                    resource_version: of("resourceVersion"),
                };
                self.delete(&key, &only)?
            }
            _ => {
                return Err(Status {
                    code: 405,
                    reason: "MethodNotAllowed",
                    message: "the server does not allow this method on the requested resource"
                        .to_owned(),
                });
            }
        };
        Ok(object.value.clone())
    }
}
