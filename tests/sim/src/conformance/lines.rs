//! Answers as lines of text. UIDs and versions are compared with those of earlier answers, as each API server has its own.

use std::collections::BTreeMap;

use headstart_core::api::well_known::HELD_LABEL;
use serde_json::Value;

use super::Request;
use super::steps::Step;

/// The UID and the version of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Id {
    uid: String,
    version: String,
}

impl Id {
    fn of(object: &Value) -> Self {
        let of = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            uid: of("uid"),
            version: of("resourceVersion"),
        }
    }

    fn number(&self) -> u64 {
        self.version.parse().unwrap_or_default()
    }
}

/// What earlier answers have shown.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The last answer about each object, by its resource and name.
    last: BTreeMap<String, Id>,
    /// The answers to named steps.
    saved: BTreeMap<&'static str, Id>,
    /// The newest version of all.
    newest: u64,
}

impl Seen {
    /// Replaces `{uid of NAME}` and `{version of NAME}` in a request, where NAME is a step.
    pub(super) fn fill_in(&self, request: &Request) -> Request {
        let fill = |text: &str| {
            let mut text = text.to_owned();
            for (name, id) in &self.saved {
                text = text.replace(&format!("{{uid of {name}}}"), &id.uid);
                text = text.replace(&format!("{{version of {name}}}"), &id.version);
            }
            assert!(
                !text.contains("{uid of") && !text.contains("{version of"),
                "{text} names a step without an answer"
            );
            text
        };
        let body = request.body.to_string();
        Request {
            path: fill(&request.path),
            body: serde_json::from_str(&fill(&body)).expect("a text in it was replaced"),
            ..request.clone()
        }
    }

    /// Describes an answer. The events of a watch are lines of their own.
    pub(super) fn describe(
        &mut self,
        step: &Step,
        request: &Request,
        code: u16,
        body: &Value,
    ) -> String {
        let resource = resource_of(&request.path);
        let what = if body["kind"] == "Status" {
            self.status(body)
        } else if let Some(events) = body.as_array() {
            let events = events.iter().map(|event| Self::event(resource, event));
            format!("events{}", events.collect::<String>())
        } else if let Some(items) = body["items"].as_array() {
            let version = Id::of(body).number();
            let names = items.iter().map(|item| text(item, "/metadata/name"));
            let age = if version >= self.newest { "" } else { ", old" };
            format!("[{}]{age}", names.collect::<Vec<_>>().join(" "))
        } else {
            self.object(step, resource, body)
        };
        format!("{code} {what}")
    }

    /// Describes a refusal, or a success without an object. UIDs and versions differ between API servers.
    fn status(&self, status: &Value) -> String {
        let reason = text(status, "/reason");
        if reason.is_empty() {
            return text(status, "/status");
        }
        let mut message = text(status, "/message");
        for id in self.saved.values().chain(self.last.values()) {
            if !id.uid.is_empty() {
                message = message.replace(&id.uid, "UID");
            }
            let version = format!("in record ({})", id.version);
            message = message.replace(&version, "in record (VERSION)");
        }
        format!("{reason} {message}")
    }

    fn event(resource: &str, event: &Value) -> String {
        let object = &event["object"];
        let details = details(resource, object);
        format!(
            "\n  {} {}{details}",
            text(event, "/type"),
            text(object, "/metadata/name")
        )
    }

    fn object(&mut self, step: &Step, resource: &str, object: &Value) -> String {
        let id = Id::of(object);
        let key = format!("{resource} {}", text(object, "/metadata/name"));
        let before = self.last.get(&key);
        let uid = match before {
            None => "first UID",
            Some(before) if before.uid == id.uid => "same UID",
            Some(_) => "other UID",
        };
        let version = match before {
            Some(before) if before.version == id.version => "same version",
            _ if id.number() > self.newest => "newer version",
            _ => "older version",
        };
        self.newest = self.newest.max(id.number());
        if let Some(name) = step.saved_as {
            self.saved.insert(name, id.clone());
        }
        self.last.insert(key, id);
        format!("{uid}, {version}{}", details(resource, object))
    }
}

fn resource_of(path: &str) -> &str {
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let known = [
        "deployments",
        "pods",
        "nodes",
        "serviceaccounts",
        "namespaces",
    ];
    let is_in_path = |resource: &&&str| path.split('/').any(|part| part == **resource);
    known.iter().find(is_in_path).copied().unwrap_or_default()
}

fn text(value: &Value, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

/// Describes what the simulator relies on in an object of a kind.
fn details(resource: &str, object: &Value) -> String {
    let shown = |pointer: &str| match object.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    match resource {
        "deployments" => {
            let label = HELD_LABEL.replace('/', "~1");
            let owned_label = format!("/f:metadata/f:labels/f:{label}");
            format!(
                ", generation {}, observed {}, replicas {}, paused {} by [{}], held {} by [{}]",
                shown("/metadata/generation"),
                shown("/status/observedGeneration"),
                shown("/spec/replicas"),
                shown("/spec/paused"),
                owners(object, "/f:spec/f:paused"),
                shown(&format!("/metadata/labels/{label}")),
                owners(object, &owned_label),
            )
        }
        "pods" => {
            let ends = object
                .pointer("/metadata/deletionTimestamp")
                .is_some_and(|at| !at.is_null());
            let grace = shown("/metadata/deletionGracePeriodSeconds");
            let end = if ends {
                format!(", ends in {grace} s")
            } else {
                String::new()
            };
            format!(
                ", {} on {}{end}",
                shown("/status/phase"),
                shown("/spec/nodeName")
            )
        }
        "nodes" => format!(
            ", unschedulable {}, kubelet {}",
            shown("/spec/unschedulable"),
            shown("/status/nodeInfo/kubeletVersion"),
        ),
        "namespaces" => format!(", {}", shown("/status/phase")),
        _ => String::new(),
    }
}

/// Returns the managers that own a field, in the order of their names.
fn owners(object: &Value, field: &str) -> String {
    let entries = object["metadata"]["managedFields"].as_array();
    let entries = entries.into_iter().flatten();
    let owning = entries.filter(|entry| entry["fieldsV1"].pointer(field).is_some());
    let mut names: Vec<String> = owning.map(|entry| text(entry, "/manager")).collect();
    names.sort();
    names.join(" ")
}
