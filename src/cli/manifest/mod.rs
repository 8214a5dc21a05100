//! Objects from files, read as `kubectl create --dry-run=client -f` reads them.
//!
//! kubectl stops at a document that it cannot read; this reader goes on with the next. tests/oracle compares both.
//!
//! kubectl's parser (go.yaml.in/yaml/v2) and this one (libyaml-safer) are both ports of libyaml, of different age. Where they
//! differ, kubectl's reads the rarer text: in flow style a `:` right before one of `,[]{}`, a comma or a bracket in a tag, a
//! byte order mark at the beginning of a later line. Nesting deeper than 128 levels is refused.

use k8s_openapi::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

mod scalar;
mod stream;
mod typed;
mod write;
mod yaml;

pub(crate) use write::to_yaml;

use typed::Typed;

/// The number of wrong values that are named for one object.
const MAX_WRONG: usize = 5;

/// An object of a file, or an item of a list in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The place of its document in the file.
    pub location: Location,
    /// The object as it is written in the file.
    pub value: Value,
}

/// The place of a document in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The number of the document, counted from 1 without empty documents.
    pub document: usize,
    /// The first line of the document, counted from 1.
    pub line: usize,
}

/// A part of a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The place of the document.
    pub location: Location,
    /// The reason.
    pub reason: Reason,
}

/// The reason for which a part of a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The document is no YAML; kubectl reads no further.
    Syntax {
        /// The line of the mistake.
        line: usize,
        /// The fault.
        message: String,
    },
    /// The document is no Kubernetes object.
    NoObject(&'static str),
}

/// Stops panics of the YAML parser, which are errors of [`read`], from being printed on standard error. Only for a process
/// that does nothing else.
pub fn silence_parser() {
    yaml::silence_panics();
}

/// Reads the objects of a file, in their order.
pub fn read(bytes: &[u8]) -> Vec<Result<Object, Broken>> {
    let mut found = Vec::new();
    for (index, document) in stream::documents(bytes).into_iter().enumerate() {
        let place = Location {
            document: index + 1,
            line: document.line,
        };
        match document.content {
            Ok(value) => collect(value, place, &mut found),
            Err((line, message)) => found.push(Err(Broken {
                location: place,
                reason: Reason::Syntax { line, message },
            })),
        }
    }
    found
}

/// Takes lists apart. The items of a typed list (`DeploymentList`) may have no kind and no version.
fn collect(value: Value, place: Location, found: &mut Vec<Result<Object, Broken>>) {
    let broken = |what| {
        Err(Broken {
            location: place,
            reason: Reason::NoObject(what),
        })
    };
    let Value::Object(mut object) = value else {
        return found.push(broken("it is not a mapping"));
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = text(object.get("kind"));
    if kind.is_empty() {
        return found.push(broken("it has no kind"));
    }
    let version = text(object.get("apiVersion"));
    if version.matches('/').count() > 1 {
        return found.push(broken("its apiVersion is not GROUP/VERSION"));
    }
    let items = match object.remove("items") {
        None => {
            let value = Value::Object(object);
            return found.push(Ok(Object {
                location: place,
                value,
            }));
        }
        Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => return found.push(broken("its items are no list")),
    };
    // kubectl does not take such a list for a list.
    if items
        .iter()
        .any(|item| !item.is_object() && !item.is_null())
    {
        return found.push(broken("one of its items is not a mapping"));
    }
    let of = kind.strip_suffix("List").unwrap_or(&kind);
    for mut item in items {
        if item.is_null() {
            item = Value::Object(Map::new());
        }
        if let Value::Object(item) = &mut item
            && text(item.get("kind")).is_empty()
            && text(item.get("apiVersion")).is_empty()
        {
            item.insert("kind".to_owned(), of.into());
            item.insert("apiVersion".to_owned(), version.as_str().into());
        }
        collect(item, place, found);
    }
}

impl Object {
    /// Returns whether the object is of this kind.
    pub fn is<T: Resource>(&self) -> bool {
        self.value["apiVersion"] == T::API_VERSION && self.value["kind"] == T::KIND
    }

    /// Returns a string of the metadata, or an empty one if it is missing.
    pub fn metadata(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or_default()
    }

    /// Decodes the object as `T`.
    ///
    /// # Errors
    /// The path and the error of each field with a wrong value, at most `MAX_WRONG` of them.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, String> {
        let mut failed = match serde_path_to_error::deserialize(Typed(&self.value)) {
            Ok(decoded) => return Ok(decoded),
            Err(failed) => failed,
        };
        // The next error shows once the wrong value is removed.
        let mut rest = self.value.clone();
        let mut wrong = Vec::new();
        loop {
            let path = failed.path().clone();
            let Some(at) = value_at(&mut rest, &path).filter(|value| !value.is_null()) else {
                wrong.push(failed.into_inner().to_string());
                break;
            };
            *at = Value::Null;
            wrong.push(format!("{path}: {}", failed.into_inner()));
            match serde_path_to_error::deserialize::<_, T>(Typed(&rest)) {
                Err(next) if wrong.len() < MAX_WRONG => failed = next,
                _ => break,
            }
        }
        Err(wrong.join("; "))
    }
}

fn value_at<'a>(value: &'a mut Value, path: &Path) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get_mut(index),
        Segment::Map { key } => value.get_mut(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use serde_json::json;

    fn values(text: &str) -> Vec<Result<Value, Reason>> {
        let found = read(text.as_bytes()).into_iter();
        found
            .map(|found| match found {
                Ok(object) => Ok(object.value),
                Err(broken) => Err(broken.reason),
            })
            .collect()
    }

    fn kinds(text: &str) -> Vec<String> {
        let kind = |value: Result<Value, Reason>| value.unwrap()["kind"].as_str().unwrap().into();
        values(text).into_iter().map(kind).collect()
    }

    #[test]
    fn lists_are_taken_apart() {
        assert_eq!(
            kinds("kind: List\nitems: [{kind: A}, {kind: List, items: [{kind: B}]}]"),
            ["A", "B"]
        );
        assert!(kinds("kind: List\nitems:").is_empty());
        let list = "kind: DeploymentList\napiVersion: apps/v1\nitems: [{metadata: {name: a}}]";
        let expected =
            json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "a"}});
        assert_eq!(values(list), [Ok(expected)]);
    }

    #[test]
    fn what_is_no_object_says_so() {
        for (text, phrase) in [
            ("just words", "not a mapping"),
            ("- kind: A", "not a mapping"),
            ("a: b", "no kind"),
            ("kind: List\nitems: [1]", "not a mapping"),
            ("kind: List\nitems: 1", "no list"),
        ] {
            let found = values(text);
            let [Err(Reason::NoObject(said))] = found.as_slice() else {
                panic!("{text:?}: {found:?}");
            };
            assert!(said.contains(phrase), "{text:?}: {said}");
        }
    }

    fn deployment(spec: &str) -> Result<Deployment, String> {
        let text = format!("kind: Deployment\napiVersion: apps/v1\nspec: {spec}");
        read(text.as_bytes()).remove(0).unwrap().decode()
    }

    #[test]
    fn numbers_without_a_fraction_are_integers() {
        let spec = "{replicas: 3.0, minReadySeconds: 1e+02, revisionHistoryLimit: -0.0}";
        let spec = deployment(spec).unwrap().spec.unwrap();
        assert_eq!(
            (
                spec.replicas,
                spec.min_ready_seconds,
                spec.revision_history_limit
            ),
            (Some(3), Some(100), Some(0))
        );
        let error = deployment("{replicas: 1.5}").unwrap_err();
        assert!(error.starts_with("spec.replicas: "), "{error}");
        let error = deployment("{replicas: 4294967296}").unwrap_err();
        assert!(error.starts_with("spec.replicas: "), "{error}");
    }

    #[test]
    fn null_is_the_zero_value() {
        let spec = "{selector: ~, template: {metadata: {labels: {a: ~}}, \
             spec: {containers: [~, {name: ~, args: [~], resources: {limits: {cpu: ~}}}]}}}";
        let template = deployment(spec).unwrap().spec.unwrap().template;
        assert_eq!(template.metadata.unwrap().labels.unwrap()["a"], "");
        let containers = template.spec.unwrap().containers;
        assert_eq!(containers[0].name, "");
        assert_eq!(
            containers[1].args.as_deref(),
            Some([String::new()].as_slice())
        );
    }

    #[test]
    fn a_wrong_value_is_named_by_its_path() {
        let spec =
            "{replicas: many, template: {spec: {containers: [{env: [{name: A, value: true}]}]}}}";
        assert_eq!(
            deployment(spec).unwrap_err(),
            "spec.replicas: invalid type: string \"many\", expected i32; \
             spec.template.spec.containers[0].env[0].value: invalid type: boolean `true`, expected a string"
        );
        assert!(
            deployment("a")
                .unwrap_err()
                .starts_with("spec: invalid type")
        );
    }
}
