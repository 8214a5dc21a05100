//! Files, read whole, and what of them is wrong.

use std::io::Read;
use std::path::Path;

use k8s_openapi::Resource;
use serde::de::DeserializeOwned;

use crate::cli::Usage;
use crate::cli::manifest::{self, Broken, Object, Reason};

/// What a file holds.
#[derive(Debug)]
pub(super) struct Found {
    /// The file, for messages.
    pub(super) name: String,
    /// Its objects, those of lists included.
    pub(super) objects: Vec<Object>,
    /// What cannot be read, each as a line for people.
    pub(super) broken: Vec<String>,
}

/// Reads a file, or standard input if it is `-`.
pub(super) fn read(path: &Path) -> Result<Found, Usage> {
    let (name, bytes) = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
        ("standard input".to_owned(), read.map(|_| bytes))
    } else {
        (path.display().to_string(), std::fs::read(path))
    };
    let bytes = bytes.map_err(|error| Usage(format!("cannot read {name}: {error}")))?;
    let mut found = Found {
        name,
        objects: Vec::new(),
        broken: Vec::new(),
    };
    for read in manifest::read(&bytes) {
        match read {
            Ok(object) => found.objects.push(object),
            Err(broken) => found.broken.push(describe(&found.name, &broken)),
        }
    }
    Ok(found)
}

fn describe(file: &str, broken: &Broken) -> String {
    let document = broken.place.document;
    match &broken.reason {
        Reason::Syntax { line, message } => {
            format!(
                "document {document} of {file} is neither YAML nor JSON: line {line}: {message}"
            )
        }
        Reason::NoObject(what) => format!(
            "document {document} of {file} (line {}) is no Kubernetes object: {what}",
            broken.place.line
        ),
    }
}

impl Found {
    /// The objects of one kind, and a line for each that has a wrong value.
    pub(super) fn of_kind<T: Resource + DeserializeOwned>(
        &self,
    ) -> impl Iterator<Item = (&Object, Result<T, String>)> {
        let objects = self.objects.iter().filter(|object| object.is::<T>());
        objects.map(|object| {
            let decoded = object.decode();
            let described = decoded.map_err(|error| format!("{}: {error}", self.describe(object)));
            (object, described)
        })
    }

    /// Names an object as people do, with its place.
    pub(super) fn describe(&self, object: &Object) -> String {
        let kind = object.value["kind"].as_str().unwrap_or_default();
        let name = match (object.metadata("name"), object.metadata("generateName")) {
            ("", "") => "without a name",
            ("", generated) => generated,
            (name, _) => name,
        };
        let place = object.place;
        format!(
            "{}: {kind} {name} (document {}, line {})",
            self.name, place.document, place.line
        )
    }
}
