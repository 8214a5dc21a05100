//! Clusters that outlive the command that started them: `cargo testbed up`, `cargo testbed down`.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::assets::Assets;
use crate::control_plane::ControlPlane;
use crate::nodes::Nodes;
use crate::run_dir::{self, PERSISTENT_FILE};

/// A cluster that runs on when this process has ended.
#[derive(Debug)]
pub enum PersistentCluster {
    /// With real nodes.
    Real(Box<Nodes>),
    /// With none, or with fake ones.
    Fake(Box<ControlPlane>),
}

impl PersistentCluster {
    /// Its control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        match self {
            Self::Real(nodes) => nodes.control_plane(),
            Self::Fake(control_plane) => control_plane,
        }
    }

    /// Leaves it running; returns how to use it.
    ///
    /// # Errors
    /// Fails if that cannot be written down.
    pub async fn keep(self) -> Result<String> {
        let control_plane = self.control_plane();
        let mut usage = format!(
            "export KUBECONFIG={}\nalias kubectl={}\n",
            control_plane.kubeconfig().display(),
            control_plane.assets().kubectl().display(),
        );
        if let Self::Real(nodes) = &self {
            let (open, private) = (
                nodes.registry().address(),
                nodes.private_registry().address(),
            );
            usage += &format!(
                "export REGISTRY={open}\n\
                 # crane copy --insecure docker.io/library/nginx:1.29 $REGISTRY/nginx:1.29\n\
                 # skopeo copy --dest-tls-verify=false docker://docker.io/library/nginx:1.29 docker://$REGISTRY/nginx:1.29\n"
            );
            if let Some(credentials) = nodes.private_registry().credentials() {
                usage += &format!(
                    "# {private} wants the user {} with the password {}\n",
                    credentials.username, credentials.password
                );
            }
        }
        usage += "# cargo testbed down    ends it\n";
        control_plane.run().keep(&usage)?;
        control_plane.leave().await;
        if let Self::Real(nodes) = &self {
            nodes.leave();
        }
        Ok(usage)
    }
}

/// Ends every persistent cluster and returns their number.
///
/// # Errors
/// Fails if a part of one could not be removed.
pub fn end_all() -> Result<usize> {
    let runs = persistent_runs()?;
    if runs.is_empty() {
        return Ok(0);
    }
    let assets = Assets::control_plane()?;
    for run in &runs {
        run_dir::reap_persistent(&assets, run)?;
    }
    Ok(runs.len())
}

/// Returns how to use the persistent clusters.
///
/// # Errors
/// Fails if the files about them cannot be read.
pub fn usages() -> Result<Vec<String>> {
    persistent_runs()?
        .iter()
        .map(|run| Ok(fs::read_to_string(run.join(PERSISTENT_FILE))?))
        .collect()
}

fn persistent_runs() -> Result<Vec<PathBuf>> {
    let mut runs = run_dir::all()?;
    runs.retain(|run| run.join(PERSISTENT_FILE).exists());
    Ok(runs)
}
