//! The repository's manifests, with the changes that a test cluster needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{LOCAL_IMAGE, local_url};
use crate::assets::workspace_root;

/// `timeoutSeconds` of the webhooks where headstart is a local process, which a busy machine may starve for longer than
/// the manifests' two seconds.
const PATIENT: u64 = 30;

/// The directory of the manifests themselves, in that of an overlay over them.
pub(super) const BASE: &str = "base";

/// A copy of `manifests/` whose kustomization is changed, as a user would change it, and an overlay over it.
pub(super) struct Manifests {
    source: PathBuf,
    kustomization: Value,
    overlay: Vec<Value>,
}

impl Manifests {
    pub(super) fn read() -> Result<Self> {
        Self::read_from(&workspace_root().join("manifests"))
    }

    /// Reads those in this directory, such as a previous release's.
    pub(super) fn read_from(source: &Path) -> Result<Self> {
        let path = source.join("kustomization.yaml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut kustomization: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        kustomization["patches"] = json!([]);
        let manifests = Self {
            source: source.to_owned(),
            kustomization,
            overlay: Vec::new(),
        };
        // Its pods come and go each minute. A test that is about them has it run.
        let suspend = json!({ "op": "add", "path": "/spec/suspend", "value": true });
        manifests.patch("CronJob", vec![suspend])
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
        self = self.image(LOCAL_IMAGE)?.patch(
            "Deployment",
            vec![json!({ "op": "replace", "path": "/spec/replicas", "value": 0 })],
        )?;
        let path = self.source.join("webhook.yaml");
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
                let by_url = json!({ "url": local_url(port, path) });
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
            let operations = Value::from(operations.concat()).to_string();
            // Over the base, which writes names into addresses that are Services.
            self.overlay
                .push(json!({ "target": { "kind": kind }, "patch": operations }));
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
        let base = directory.join(BASE);
        // Nothing stays of another version's.
        if base.exists() {
            fs::remove_dir_all(&base)?;
        }
        copy(&self.source, &base)?;
        write_kustomization(&base, &self.kustomization)?;
        let overlay = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "sortOptions": { "order": "fifo" },
            "resources": [BASE],
            "patches": self.overlay,
        });
        write_kustomization(directory, &overlay)
    }
}

fn write_kustomization(directory: &Path, kustomization: &Value) -> Result<()> {
    Ok(fs::write(
        directory.join("kustomization.yaml"),
        kustomization.to_string(),
    )?)
}

/// Writes an overlay that installs headstart by another name and in another namespace, as docs/policies.md has it.
pub(super) fn write_overlay(
    directory: &Path,
    base: &str,
    namespace: &str,
    name: &str,
) -> Result<()> {
    let rename = json!([{ "op": "replace", "path": "/metadata/name", "value": name }]);
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [base],
        "patches": [{
            "target": { "name": super::NAME },
            "options": { "allowNameChange": true },
            "patch": rename.to_string(),
        }],
        "transformers": [format!("{base}/names")],
    });
    fs::create_dir_all(directory)?;
    write_kustomization(directory, &overlay)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
