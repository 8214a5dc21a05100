//! Reads whole files, and describes their errors.

use std::io::Read;
use std::path::Path;

use k8s_openapi::Resource;
use serde::de::DeserializeOwned;

use crate::cli::UsageError;
use crate::cli::manifest::{self, Broken, Object, Reason};

/// The hint about a document with `{{` in it.
const TEMPLATE: &str = "; it looks like a template: render it first, for instance helm template … | headstart plan -f -";

/// The content of a file.
#[derive(Debug)]
pub(super) struct ManifestFile {
    /// The name of the file, for messages.
    pub(super) name: String,
    /// Its objects, with the items of lists.
    pub(super) objects: Vec<Object>,
    /// A message for each document that cannot be read.
    pub(super) broken: Vec<String>,
}

/// Reads a file, or standard input if it is `-`.
pub(super) fn read(path: &Path) -> Result<ManifestFile, UsageError> {
    let (name, bytes) = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
        ("standard input".to_owned(), read.map(|_| bytes))
    } else {
        (path.display().to_string(), std::fs::read(path))
    };
    let bytes = bytes.map_err(|error| {
        let instead = instead(path).unwrap_or_default();
        UsageError(format!("cannot read {name}: {error}{instead}"))
    })?;
    let mut found = ManifestFile {
        name,
        objects: Vec::new(),
        broken: Vec::new(),
    };
    for read in manifest::read(&bytes) {
        match read {
            Ok(object) => found.objects.push(object),
            Err(broken) => {
                let mut described = describe(&found.name, &broken);
                if looks_like_template(&bytes, &broken) {
                    described += TEMPLATE;
                }
                found.broken.push(described);
            }
        }
    }
    Ok(found)
}

/// Returns a hint about a path that cannot be read as a file.
fn instead(path: &Path) -> Option<String> {
    let name = path.display();
    if path.is_dir() {
        return Some(format!(
            "; of a directory: kubectl create -f {name} --dry-run=client -o yaml | headstart plan -f -"
        ));
    }
    let is_url = path.starts_with("http:") || path.starts_with("https:");
    is_url.then(|| format!("; of a URL: curl -fsSL {name} | headstart plan -f -"))
}

fn looks_like_template(bytes: &[u8], broken: &Broken) -> bool {
    let Reason::Syntax { line, .. } = broken.reason else {
        return false;
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    let before = broken.location.line.saturating_sub(1);
    let mut lines = lines.skip(before).take(line.saturating_sub(before));
    lines.any(|line| line.windows(2).any(|pair| pair == b"{{"))
}

fn describe(file: &str, broken: &Broken) -> String {
    let document = broken.location.document;
    match &broken.reason {
        Reason::Syntax { line, message } => {
            format!(
                "document {document} of {file} is neither YAML nor JSON: line {line}: {message}"
            )
        }
        Reason::NoObject(what) => format!(
            "document {document} of {file} (line {}) is no Kubernetes object: {what}",
            broken.location.line
        ),
    }
}

impl ManifestFile {
    /// Returns the objects of one kind, each decoded or with an error message.
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

    /// Splits the objects of one kind into decoded ones and error messages.
    pub(super) fn sort<T: Resource + DeserializeOwned>(&self) -> (Vec<T>, Vec<String>) {
        let (mut read, mut broken) = (Vec::new(), Vec::new());
        for (_, object) in self.of_kind() {
            match object {
                Ok(object) => read.push(object),
                Err(complaint) => broken.push(complaint),
            }
        }
        (read, broken)
    }

    /// Describes an object by its file, kind, name and place.
    pub(super) fn describe(&self, object: &Object) -> String {
        let kind = object.value["kind"].as_str().unwrap_or_default();
        let name = match (object.metadata("name"), object.metadata("generateName")) {
            ("", "") => "without a name",
            ("", generated) => generated,
            (name, _) => name,
        };
        let place = object.location;
        format!(
            "{}: {kind} {name} (document {}, line {})",
            self.name, place.document, place.line
        )
    }
}
