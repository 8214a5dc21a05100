//! The previous release: its binary and its manifests, built from the repository's own history.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::build::{cargo, output};
use crate::assets::{lock, run, target_dir, workspace_root};
use crate::progress::Progress;

/// The commit that stands for the previous release. No release is tagged yet. This commit is the last one before the rework of
/// holds, which begins with its child 2d2eafc: its leader writes nothing about resumes into the Lease, it knows a hold by its
/// Deployment alone, and its manifests have one ServiceAccount and no CronJob.
pub const PREVIOUS_RELEASE: &str = "ca6674c7dfd72a109e8f71efc0a5f2915198aa32";
/// The files of a build, in its directory.
const BINARY: &str = "headstart";
const MANIFESTS: &str = "manifests";

/// The previous release, built.
#[derive(Clone, Debug)]
pub struct PreviousRelease {
    directory: PathBuf,
}

/// The previous release, or the reason why this checkout has none.
#[derive(Clone, Debug)]
pub enum Availability {
    /// The build is there.
    Built(PreviousRelease),
    /// The checkout has no history that reaches it.
    NoHistory(String),
}

impl PreviousRelease {
    /// Builds it, unless it was built on this machine before.
    ///
    /// # Errors
    /// Fails if it does not compile; the compiler's last lines are the message.
    pub fn build() -> Result<Availability> {
        let all = target_dir().join("previous-release");
        let directory = all.join(PREVIOUS_RELEASE);
        // It appears as a whole, by a rename.
        if directory.is_dir() {
            return Ok(Availability::Built(Self { directory }));
        }
        if let Some(reason) = no_history() {
            return Ok(Availability::NoHistory(reason));
        }
        fs::create_dir_all(&all).with_context(|| format!("create {}", all.display()))?;
        let _turn = lock(
            &all.join("lock"),
            "another process that builds the previous release",
        )?;
        if !directory.is_dir() {
            build(&all, &directory).context("build the previous release")?;
        }
        Ok(Availability::Built(Self { directory }))
    }

    /// Its binary.
    pub fn binary(&self) -> PathBuf {
        self.directory.join(BINARY)
    }

    /// Its `manifests/`.
    pub fn manifests(&self) -> PathBuf {
        self.directory.join(MANIFESTS)
    }
}

/// The reason why git does not have the commit.
fn no_history() -> Option<String> {
    let commit = format!("{PREVIOUS_RELEASE}^{{commit}}");
    let asked = Command::new("git")
        .current_dir(workspace_root())
        .args(["cat-file", "-e", &commit])
        .output();
    match asked {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(format!(
                "this checkout has no commit {PREVIOUS_RELEASE}: {}",
                said.trim()
            ))
        }
        Err(error) => Some(format!("git does not run: {error}")),
    }
}

/// Builds into `directory`. What a killed run left beside it is built on, and never taken for whole.
fn build(all: &Path, directory: &Path) -> Result<()> {
    let aside = all.join(format!("{PREVIOUS_RELEASE}.unfinished"));
    let (source, target) = (aside.join("source"), aside.join("target"));
    let whole = aside.join("whole");
    fs::create_dir_all(&source).with_context(|| format!("create {}", source.display()))?;
    // An archive has the times of its commit: cargo builds nothing again that it has built of an earlier one.
    let archive = aside.join("source.tar");
    let mut git = Command::new("git");
    git.current_dir(workspace_root())
        .args(["archive", "--format=tar", "-o"])
        .arg(&archive)
        .arg(PREVIOUS_RELEASE);
    output(&mut git)?;
    let mut tar = Command::new("tar");
    output(tar.arg("-xf").arg(&archive).arg("-C").arg(&source))?;
    let mut cargo = cargo();
    cargo
        .current_dir(&source)
        .args(["build", "--locked", "--package", "headstart"])
        .args(["--bin", "headstart"])
        // Nobody debugs it, and it is built once.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TARGET_DIR", &target);
    let progress = Progress::start(format!(
        "building the previous release, {PREVIOUS_RELEASE} (4 minutes the first time)"
    ));
    run(&mut cargo, progress)?;
    if whole.exists() {
        fs::remove_dir_all(&whole)?;
    }
    fs::create_dir_all(&whole)?;
    fs::rename(target.join("debug").join(BINARY), whole.join(BINARY))
        .context("take the binary out of its target directory")?;
    fs::rename(source.join(MANIFESTS), whole.join(MANIFESTS))
        .context("take the manifests out of the sources")?;
    fs::rename(&whole, directory).with_context(|| format!("create {}", directory.display()))?;
    fs::remove_dir_all(&aside).with_context(|| format!("remove {}", aside.display()))
}
