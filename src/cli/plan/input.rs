//! Objects from files: YAML or JSON, several documents, lists.

use std::io::Read;
use std::path::Path;

use k8s_openapi::Resource;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::Usage;

/// What a file holds.
#[derive(Debug)]
pub(super) struct Found {
    /// The file, for messages.
    pub(super) name: String,
    /// Its objects, those of lists included.
    objects: Vec<Value>,
}

/// Reads a file, or standard input if it is `-`.
pub(super) fn read(path: &Path) -> Result<Found, Usage> {
    let (name, text) = if path.as_os_str() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        ("standard input".to_owned(), read.map(|_| text))
    } else {
        (path.display().to_string(), std::fs::read_to_string(path))
    };
    let text = text.map_err(|error| Usage(format!("cannot read {name}: {error}")))?;
    let mut objects = Vec::new();
    for (index, document) in documents(&text).enumerate() {
        let number = index + 1;
        let document = document.map_err(|error| {
            Usage(format!(
                "document {number} of {name} is neither YAML nor JSON: {error}"
            ))
        })?;
        collect(document, &mut objects).map_err(|found| {
            Usage(format!(
                "document {number} of {name} is no Kubernetes object: {found}"
            ))
        })?;
    }
    Ok(Found { name, objects })
}

impl Found {
    /// The objects of one kind.
    pub(super) fn of_kind<T: Resource + DeserializeOwned>(&self) -> Result<Vec<T>, Usage> {
        let wanted =
            |object: &&Value| object["apiVersion"] == T::API_VERSION && object["kind"] == T::KIND;
        let objects = self.objects.iter().filter(wanted);
        objects
            .map(|object| {
                T::deserialize(object).map_err(|error| {
                    let name = object["metadata"]["name"]
                        .as_str()
                        .unwrap_or("without a name");
                    Usage(format!("{}: {} {name}: {error}", self.name, T::KIND))
                })
            })
            .collect()
    }
}

type Documents<'a> = Box<dyn Iterator<Item = Result<Value, String>> + 'a>;

fn documents(text: &str) -> Documents<'_> {
    // JSON is read as such: the YAML parser takes most of it, but not tabs.
    if text.trim_start().starts_with('{') {
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        if let Ok(values) = values {
            return Box::new(values.into_iter().map(Ok));
        }
    }
    let documents = serde_yaml::Deserializer::from_str(text);
    Box::new(documents.map(|document| {
        let mut value =
            serde_yaml::Value::deserialize(document).map_err(|error| error.to_string())?;
        value.apply_merge().map_err(|error| error.to_string())?;
        serde_json::to_value(value).map_err(|error| error.to_string())
    }))
}

/// Takes lists apart. The items of a typed list (`DeploymentList`) need not say what they are.
fn collect(document: Value, objects: &mut Vec<Value>) -> Result<(), &'static str> {
    let mut object = match document {
        // Nothing between two separators.
        Value::Null => return Ok(()),
        Value::Object(object) => object,
        _ => return Err("it is not a mapping"),
    };
    let kind = object.get("kind").and_then(Value::as_str);
    let kind = kind.ok_or("it has no kind")?.to_owned();
    let Some(of) = kind.strip_suffix("List") else {
        objects.push(Value::Object(object));
        return Ok(());
    };
    let version = object.get("apiVersion").cloned().unwrap_or_default();
    let Some(Value::Array(items)) = object.remove("items") else {
        return Ok(());
    };
    for mut item in items {
        if let (false, Value::Object(item)) = (of.is_empty(), &mut item) {
            item.entry("kind").or_insert_with(|| of.into());
            item.entry("apiVersion").or_insert_with(|| version.clone());
        }
        collect(item, objects)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects(text: &str) -> Result<Vec<Value>, String> {
        let mut objects = Vec::new();
        for document in documents(text) {
            collect(document?, &mut objects)?;
        }
        Ok(objects)
    }

    fn kinds(text: &str) -> Vec<String> {
        let objects = objects(text).unwrap();
        let kind = |object: &Value| object["kind"].as_str().unwrap().to_owned();
        objects.iter().map(kind).collect()
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        assert_eq!(kinds("---\nkind: A\n---\n---\nkind: B\n...\n"), ["A", "B"]);
        assert_eq!(kinds("{\"kind\":\t\"A\"}\n{\"kind\": \"B\"}"), ["A", "B"]);
        assert_eq!(
            kinds("kind: List\nitems: [{kind: A}, {kind: List, items: [{kind: B}]}]"),
            ["A", "B"]
        );
        assert!(kinds("").is_empty() && kinds("# nothing\n").is_empty());
        assert!(kinds("kind: List").is_empty());
    }

    #[test]
    fn items_of_a_typed_list_are_what_the_list_says() {
        let list = "kind: DeploymentList\napiVersion: apps/v1\nitems: [{metadata: {name: a}}]";
        let expected =
            json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "a"}});
        assert_eq!(objects(list), Ok(vec![expected]));
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        let text = "kind: A\nbase: &base {x: 1}\nderived: {<<: *base, y: 2}";
        assert_eq!(
            objects(text).unwrap()[0]["derived"],
            json!({"x": 1, "y": 2})
        );
    }

    #[test]
    fn what_is_no_object_says_so() {
        for (text, phrase) in [
            ("just words", "not a mapping"),
            ("- kind: A", "not a mapping"),
            ("a: b", "no kind"),
            ("kind: List\nitems: [1]", "not a mapping"),
            ("a: [b", "did not find expected"),
            ("{\"kind\": ", "did not find expected"),
        ] {
            let error = objects(text).unwrap_err();
            assert!(error.contains(phrase), "{text:?}: {error}");
        }
    }
}
