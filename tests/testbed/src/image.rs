//! Images built from files, from scratch: layers, user, entrypoint, platform.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::registry::Credentials;

/// An image to build. Empty, it has no layer, no user and no entrypoint, and is for this machine's platform.
#[derive(Clone, Debug, Default)]
pub struct Image {
    layers: Vec<Value>,
    user: String,
    entrypoint: Vec<String>,
    architecture: Option<String>,
    index: bool,
}

impl Image {
    /// The architecture of this machine, as images name it.
    pub fn own_architecture() -> &'static str {
        if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        }
    }

    /// Adds a layer with one file, copied from this machine.
    #[must_use]
    pub fn program(mut self, path: &str, source: PathBuf) -> Self {
        self.layers
            .push(json!({ "files": [{ "path": path, "source": source, "mode": 0o755 }] }));
        self
    }

    /// Adds a layer with one text file.
    #[must_use]
    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.layers
            .push(json!({ "files": [{ "path": path, "content": content, "mode": 0o644 }] }));
        self
    }

    /// Adds a layer of this many bytes that do not compress; the same seed gives the same layer.
    #[must_use]
    pub fn random_layer(mut self, bytes: u64, seed: u64) -> Self {
        self.layers
            .push(json!({ "randomBytes": bytes, "seed": seed }));
        self
    }

    /// Adds a layer with the files of a directory of this machine, up to this many bytes.
    #[must_use]
    pub fn tree(mut self, directory: PathBuf, bytes: u64) -> Self {
        self.layers
            .push(json!({ "tree": directory, "treeBytes": bytes }));
        self
    }

    /// Puts a file with this text into every layer so far: layers that no other image has, and no node.
    #[must_use]
    pub fn marked(mut self, mark: &str) -> Self {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let file = json!({ "path": format!("/mark-{index}"), "content": mark, "mode": 0o644 });
            match layer["files"].as_array_mut() {
                Some(files) => files.push(file),
                None => layer["files"] = json!([file]),
            }
        }
        self
    }

    /// Sets `USER`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Sets `ENTRYPOINT`.
    #[must_use]
    pub fn entrypoint(mut self, entrypoint: &[&str]) -> Self {
        self.entrypoint = entrypoint
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        self
    }

    /// Puts it into an index whose only platform has this architecture. A runtime looks for its own in an index; a
    /// manifest by itself it takes as it is.
    #[must_use]
    pub fn only_for(mut self, architecture: &str) -> Self {
        self.architecture = Some(architecture.to_owned());
        self.index = true;
        self
    }

    /// For the testbed's tools, which build and push it.
    pub(crate) fn description(&self, reference: &str, credentials: Option<&Credentials>) -> Value {
        let Self {
            layers,
            user,
            entrypoint,
            architecture,
            index,
        } = self;
        json!({
            "reference": reference,
            "username": credentials.map_or("", |credentials| &credentials.username),
            "password": credentials.map_or("", |credentials| &credentials.password),
            "os": "linux",
            "architecture": architecture.as_deref().unwrap_or(Self::own_architecture()),
            "index": index,
            "user": user,
            "entrypoint": entrypoint,
            "layers": layers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_changes_every_layer_and_keeps_what_is_in_it() {
        let image = Image::default()
            .file("/name", "web")
            .tree("/usr/share".into(), 1000)
            .marked("second");
        let description = image.description("registry/web:1", None);
        let layers = description["layers"].as_array().unwrap();
        assert_eq!(layers[0]["files"].as_array().unwrap().len(), 2);
        assert_eq!(layers[1]["tree"], "/usr/share");
        for (index, layer) in layers.iter().enumerate() {
            let mark = layer["files"].as_array().unwrap().last().unwrap();
            assert_eq!(
                (&mark["path"], &mark["content"]),
                (&json!(format!("/mark-{index}")), &json!("second"))
            );
        }
    }
}
