//! The objects that the path and the query of a request select.

use headstart_core::scheduling::labels::Labels;
use headstart_core::scheduling::selector::Selector;
use serde_json::Value;
use std::collections::BTreeMap;

use super::{Kind, ObjectKey};

/// The objects that a path and a query name.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The object; without a name all of a kind, without a namespace those of all namespaces.
    pub key: ObjectKey,
    /// True if the path names the status.
    pub status: bool,
    query: BTreeMap<String, String>,
    labels: Option<Selector>,
    fields: Vec<FieldCondition>,
}

/// A condition on a field.
#[derive(Clone, Debug)]
struct FieldCondition {
    path: Vec<String>,
    equal: bool,
    value: String,
}

impl FieldCondition {
    fn read(text: &str) -> Option<Self> {
        let (path, value, equal) = match text.split_once("!=") {
            Some((path, value)) => (path, value, false),
            None => {
                let (path, value) = text.split_once('=')?;
                (path, value.trim_start_matches('='), true)
            }
        };
        Some(Self {
            path: path.split('.').map(str::to_owned).collect(),
            equal,
            value: value.to_owned(),
        })
    }

    fn matches(&self, object: &Value) -> bool {
        let found = self.path.iter().fold(object, |value, part| &value[part]);
        (found.as_str().unwrap_or_default() == self.value) == self.equal
    }
}

impl Selection {
    /// Reads a path and a query; `None` if the API server does not know the path, or does not understand a selector.
    pub fn read(path: &str, query: &str) -> Option<Self> {
        let (key, status) = target(path)?;
        let query = form_urlencoded::parse(query.as_bytes());
        let query: BTreeMap<String, String> = query.into_owned().collect();
        let labels = match query.get("labelSelector") {
            Some(labels) => Some(labels.parse().ok()?),
            None => None,
        };
        let fields = query.get("fieldSelector").map(String::as_str);
        let fields = fields.unwrap_or_default().split(',');
        let fields = fields
            .filter(|field| !field.is_empty())
            .map(FieldCondition::read)
            .collect::<Option<_>>()?;
        Some(Self {
            key,
            status,
            query,
            labels,
            fields,
        })
    }

    /// Returns a parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Returns whether changes are asked for.
    pub fn is_watch(&self) -> bool {
        self.parameter("watch") == Some("true")
    }

    /// Returns whether an object is asked for.
    pub fn matches(&self, key: &ObjectKey, object: &Value) -> bool {
        let named = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let labels = || {
            let labels = object["metadata"]["labels"].as_object().into_iter();
            let labels: BTreeMap<String, String> = labels
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect();
            Labels::from(&labels)
        };
        key.kind == self.key.kind
            && named(&self.key.namespace, &key.namespace)
            && named(&self.key.name, &key.name)
            && self.fields.iter().all(|field| field.matches(object))
            && self
                .labels
                .as_ref()
                .is_none_or(|wanted| wanted.matches(&labels()))
    }
}

/// Returns what a path names, and whether that is a status.
fn target(path: &str) -> Option<(ObjectKey, bool)> {
    let path = path.strip_prefix("/apis/").or(path.strip_prefix("/api/"))?;
    let in_group = |kind: Kind| {
        let (group, _) = kind.api();
        let rest = path.strip_prefix(group)?.strip_prefix('/')?;
        let parts: Vec<&str> = rest.split('/').collect();
        let (namespace, rest) = match parts.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (resource, rest) = rest.split_first()?;
        let name = rest.first().copied().unwrap_or_default();
        let key = ObjectKey::new(kind, namespace, name);
        (*resource == kind.resource()).then(|| (key, rest.get(1) == Some(&"status")))
    };
    Kind::ALL.into_iter().find_map(in_group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_query_selects_by_labels_and_fields() {
        let query = "labelSelector=app%3Dweb%2Ctrack+notin+%28a%2Cb%29&fieldSelector=status.phase%21%3DFailed";
        let pods = Selection::read("/api/v1/namespaces/shop/pods", query).expect("a known path");
        let matches = |namespace: &str, track: &str, phase: &str| {
            let key = ObjectKey::new(Kind::Pod, namespace, "p");
            let labels = json!({"app": "web", "track": track});
            let pod = json!({"metadata": {"labels": labels}, "status": {"phase": phase}});
            pods.matches(&key, &pod)
        };
        assert!(matches("shop", "c", "Running"));
        assert!(!matches("shop", "a", "Running"));
        assert!(!matches("shop", "c", "Failed"));
        assert!(!matches("other", "c", "Running"));
        assert!(!pods.is_watch());
    }

    #[test]
    fn a_path_names_a_kind_by_its_group() {
        let read = |path: &str| Selection::read(path, "").map(|selection| selection.key);
        let lease = ObjectKey::new(Kind::Lease, "headstart", "headstart");
        let path = "/apis/coordination.k8s.io/v1/namespaces/headstart/leases/headstart";
        assert_eq!(read(path), Some(lease));
        let all = ObjectKey::new(Kind::Deployment, "", "");
        assert_eq!(read("/apis/apps/v1/deployments"), Some(all));
        let namespace = ObjectKey::new(Kind::Namespace, "", "shop");
        assert_eq!(read("/api/v1/namespaces/shop"), Some(namespace));
        assert_eq!(read("/api/v1/deployments"), None);
    }
}
