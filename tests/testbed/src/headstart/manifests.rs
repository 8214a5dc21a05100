//! The repository's manifests, with what a test cluster needs different.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::assets::workspace_root;

/// `timeoutSeconds` of the webhooks where headstart is a local process, which a busy machine may starve for longer than
/// the manifests' two seconds.
const PATIENT: u64 = 30;

/// A copy of `manifests/` whose kustomization is changed, as an overlay of a user would change it.
pub(super) struct Manifests {
    kustomization: Value,
}

impl Manifests {
    pub(super) fn read() -> Result<Self> {
        let path = workspace_root().join("manifests/kustomization.yaml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut kustomization: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        kustomization["patches"] = json!([]);
        Ok(Self { kustomization })
    }

    /// Runs this image, `NAME:TAG`.
    pub(super) fn image(mut self, reference: &str) -> Result<Self> {
        let (name, tag) = reference
            .rsplit_once(':')
            .with_context(|| format!("{reference} has no tag"))?;
        let image = self
            .kustomization
            .pointer_mut("/images/0")
            .context("the kustomization names no image")?;
        image["newName"] = name.into();
        image["newTag"] = tag.into();
        Ok(self)
    }

    /// Adds flags to `headstart serve`.
    pub(super) fn flags(self, flags: &[&str]) -> Result<Self> {
        let add = |flag: &&str| json!({ "op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": flag });
        self.patch("Deployment", flags.iter().map(add).collect())
    }

    /// Has all webhooks called at this port of the loopback interface instead of by Service, and runs nothing in the cluster.
    pub(super) fn called_at(mut self, port: u16) -> Result<Self> {
        let resources = self.kustomization["resources"]
            .as_array_mut()
            .context("the kustomization has no resources")?;
        resources.retain(|resource| {
            resource != "deployment.yaml" && resource != "pod-disruption-budget.yaml"
        });
        let path = workspace_root().join("manifests/webhook.yaml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let configurations: Vec<Value> = serde_saphyr::from_multiple(&text)
            .with_context(|| format!("parse {}", path.display()))?;
        for configuration in configurations {
            let kind = configuration["kind"].as_str().context("no kind")?;
            let webhooks = configuration["webhooks"]
                .as_array()
                .with_context(|| format!("a {kind} without webhooks"))?;
            let call = |(index, webhook): (usize, &Value)| {
                let path = &webhook["clientConfig"]["service"]["path"];
                let path = path.as_str().context("a webhook without a path")?;
                let by_url = json!({ "url": format!("https://127.0.0.1:{port}{path}") });
                let of_webhook = |field: &str| format!("/webhooks/{index}/{field}");
                Ok([
                    json!({ "op": "replace", "path": of_webhook("clientConfig"), "value": by_url }),
                    json!({ "op": "replace", "path": of_webhook("timeoutSeconds"), "value": PATIENT }),
                ])
            };
            let operations: Vec<_> = webhooks
                .iter()
                .enumerate()
                .map(call)
                .collect::<Result<_>>()?;
            self = self.patch(kind, operations.concat())?;
        }
        Ok(self)
    }

    fn patch(mut self, kind: &str, operations: Vec<Value>) -> Result<Self> {
        if !operations.is_empty() {
            let patches = self.kustomization["patches"]
                .as_array_mut()
                .context("patches is no list")?;
            patches.push(
                json!({ "target": { "kind": kind }, "patch": Value::from(operations).to_string() }),
            );
        }
        Ok(self)
    }

    /// Writes them for `kubectl apply -k DIRECTORY`.
    pub(super) fn write(self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        for entry in fs::read_dir(workspace_root().join("manifests"))? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                fs::copy(&path, directory.join(name))?;
            }
        }
        Ok(fs::write(
            directory.join("kustomization.yaml"),
            self.kustomization.to_string(),
        )?)
    }
}
