//! The programs that clusters are made of, built on first use from the Go module proxy.
//!
//! They are built into `target/testbed/bin`, once for all who ask at the same time, and again only when their
//! sources, versions or flags changed. What `KUBEBUILDER_ASSETS` names is used instead of what would be built.

mod build;
mod recipes;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub(crate) use build::{lock, run};
use recipes::Recipe;

/// The version of Kubernetes that the clusters have.
pub const KUBERNETES_VERSION: &str = "v1.37.2";
/// The version of containerd that real nodes run and fake nodes report.
pub const CONTAINERD_VERSION: &str = "v2.4.2";

/// Our one binary for every component of Kubernetes.
const KUBERNETES: &str = "kubernetes";
/// The components that it can be.
const KUBERNETES_COMPONENTS: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// The directories of the programs.
#[derive(Clone, Debug)]
pub struct Assets {
    bin: PathBuf,
    provided: Option<PathBuf>,
}

impl Assets {
    /// Builds the programs for a control plane and fake nodes.
    ///
    /// # Errors
    /// Fails if a program cannot be built; the message says what to install.
    pub fn control_plane() -> Result<Self> {
        Self::build(&[recipes::CONTROL_PLANE])
    }

    /// Builds the programs for a control plane and real nodes.
    ///
    /// # Errors
    /// Fails if a program cannot be built; the message says what to install.
    pub fn nodes() -> Result<Self> {
        Self::build(&[recipes::CONTROL_PLANE, recipes::NODE])
    }

    /// Builds the program that answers as Kubernetes' own libraries do. It needs no cluster.
    ///
    /// # Errors
    /// Fails if the program cannot be built; the message says what to install.
    pub fn oracle() -> Result<Self> {
        Self::build(&[recipes::ORACLE])
    }

    fn build(sets: &[&'static [Recipe]]) -> Result<Self> {
        let assets = Self {
            bin: target_dir().join("testbed/bin"),
            provided: std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from),
        };
        let mut wanted: Vec<&Recipe> = sets.iter().copied().flatten().collect();
        // Ten minutes of building are saved where every component is provided; with some missing, ours fills in.
        if assets.provides(KUBERNETES_COMPONENTS) {
            wanted.retain(|recipe| recipe.name != KUBERNETES);
        }
        build::ensure(&assets.bin, wanted).context("building the testbed's programs")?;
        Ok(assets)
    }

    fn provides(&self, components: &[&str]) -> bool {
        let provided = self.provided.as_ref();
        provided.is_some_and(|directory| {
            components
                .iter()
                .all(|component| directory.join(component).is_file())
        })
    }

    /// The program and first arguments that run a component of Kubernetes.
    pub(crate) fn kubernetes(&self, component: &str) -> (PathBuf, Option<String>) {
        match self
            .provided
            .as_ref()
            .map(|directory| directory.join(component))
        {
            Some(provided) if provided.is_file() => (provided, None),
            _ => (self.program(KUBERNETES), Some(component.to_owned())),
        }
    }

    /// A program by its name.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// `kubectl`, of the cluster's own version.
    pub fn kubectl(&self) -> PathBuf {
        match self.kubernetes("kubectl") {
            (provided, None) => provided,
            _ => self.program("kubectl"),
        }
    }

    /// A static program of some hundred kilobytes that only waits until it is asked to end: an entrypoint for
    /// images without a shell. Of the node set.
    pub fn pause(&self) -> PathBuf {
        self.program("pause")
    }

    /// The testbed's own tools: static, `tools get PATH` asks the API server from within a pod.
    pub fn tools(&self) -> PathBuf {
        self.program("tools")
    }

    /// The directory of all of them, for `PATH`.
    pub fn bin(&self) -> &Path {
        &self.bin
    }
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace_root().join(directory),
        None => workspace_root().join("target"),
    }
}

/// The root of the workspace that this crate was built in.
pub fn workspace_root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_provided_is_used_and_what_is_missing_is_ours() {
        let directory =
            std::env::temp_dir().join(format!("headstart-assets-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let assets = Assets {
            bin: "/ours".into(),
            provided: Some(directory.clone()),
        };
        std::fs::write(directory.join("kube-apiserver"), "").unwrap();
        assert!(!assets.provides(KUBERNETES_COMPONENTS));
        assert_eq!(
            assets.kubernetes("kube-apiserver"),
            (directory.join("kube-apiserver"), None)
        );
        let ours = (PathBuf::from("/ours/kubernetes"), Some("etcd".to_owned()));
        assert_eq!(assets.kubernetes("etcd"), ours);
        for component in KUBERNETES_COMPONENTS {
            std::fs::write(directory.join(component), "").unwrap();
        }
        assert!(assets.provides(KUBERNETES_COMPONENTS));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
