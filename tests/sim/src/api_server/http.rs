//! The API server's HTTP interface: the requests that headstart and the conformance script make, but watches.

use serde_json::{Value, json};

use super::changes::typed;
use super::{ApiServer, Kind, Preconditions, Selection, Status};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The objects that it is about.
    pub selection: Selection,
    /// The body; null if there is none. A patch is a merge patch.
    pub body: Value,
    /// The field manager of the write.
    pub manager: String,
}

impl ApiServer {
    /// Answers a request: the status code, and the object or the refusal.
    pub fn handle(&mut self, request: &Request) -> (u16, Value) {
        let created = if request.method == "POST" { 201 } else { 200 };
        match self.answer(request) {
            Ok(object) => (created, object),
            Err(status) => (status.code, status.to_json()),
        }
    }

    fn answer(&mut self, request: &Request) -> Result<Value, Status> {
        let Request {
            method,
            selection,
            body,
            manager,
        } = request;
        let key = &selection.key;
        let object = match method.as_str() {
            "GET" if key.name.is_empty() => return Ok(self.list_selected(selection)),
            "GET" => self.get(key)?,
            "POST" => {
                let mut body = body.clone();
                if key.kind.is_namespaced() {
                    body["metadata"]["namespace"] = json!(key.namespace);
                }
                self.create(key.kind, body, manager)?
            }
            "PUT" => self.update(key, body.clone(), manager)?,
            "PATCH" if selection.status => self.patch_status(key, &body["status"])?,
            "PATCH" => self.patch(key, body, manager)?,
            "DELETE" => {
                let of = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
                let only = Preconditions {
                    uid: of("uid"),
                    resource_version: of("resourceVersion"),
                };
                let grace = body["gracePeriodSeconds"].as_u64();
                let deleted = self.delete_within(key, &only, grace)?;
                // Of the other kinds the answer is no object.
                if !matches!(key.kind, Kind::Pod | Kind::ServiceAccount | Kind::Namespace) {
                    return Ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
                }
                deleted
            }
            _ => return Err(Status::method_not_allowed()),
        };
        Ok(typed(key, &object.value))
    }

    fn list_selected(&self, selection: &Selection) -> Value {
        let objects = self.list(selection.key.kind);
        let items = objects.filter(|(key, object)| selection.matches(key, &object.value));
        let items: Vec<&Value> = items.map(|(_, object)| &object.value).collect();
        let (version, kind) = selection.key.kind.api();
        json!({
            "apiVersion": version, "kind": format!("{kind}List"),
            "metadata": {"resourceVersion": self.revision.to_string()}, "items": items,
        })
    }
}
