//! Builds the static binary that the image holds.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::assets::{lock, run, target_dir, workspace_root};
use crate::progress::Progress;

/// The profile with which cargo builds the static binary.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// Without link-time optimisation, for tests and the demo: it compiles in a third of the time.
    Ci,
    /// As the Dockerfile builds it, for benches.
    Release,
}

impl Profile {
    /// Its name in Cargo.toml, which is also the name of its directory.
    fn name(self) -> &'static str {
        match self {
            Self::Ci => "ci",
            Self::Release => "release",
        }
    }

    fn takes(self) -> &'static str {
        match self {
            Self::Ci => "2 minutes",
            Self::Release => "5 minutes",
        }
    }
}

/// The static binary, built if it is outdated; or the one that `HEADSTART_BINARY` names.
///
/// # Errors
/// Fails if it does not compile; the compiler's last lines are the message.
pub fn binary(profile: Profile) -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("HEADSTART_BINARY") {
        return Ok(binary.into());
    }
    let directory = target_dir();
    std::fs::create_dir_all(&directory)?;
    let _turn = lock(
        &directory.join("headstart.lock"),
        "another process that builds headstart",
    )?;
    let host = host()?;
    let mut command = cargo();
    command
        .current_dir(workspace_root())
        .args([
            "build",
            "--locked",
            "--profile",
            profile.name(),
            "--package",
            "headstart",
            "--bin",
            "headstart",
        ])
        // A target of its own keeps the flag away from build scripts and procedural macros, which cannot be
        // linked statically.
        .args(["--target", &host])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", &directory);
    let takes = profile.takes();
    let progress = Progress::start(format!(
        "building headstart's static binary ({takes} the first time)"
    ));
    run(&mut command, progress)?;
    Ok(directory.join(host).join(profile.name()).join("headstart"))
}

/// The cargo that runs this, or the one on `PATH`.
pub(super) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The cargo that runs us describes our package in its environment, and build scripts that look at such
    // variables (ring's does) would make all that depends on them build again for each caller.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
            "OUT_DIR",
        ]
        .iter()
        .any(|of_package| name.starts_with(of_package))
        {
            command.env_remove(&variable);
        }
    }
    command
}

/// The target triple of this machine.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let host = output(Command::new(rustc).args(["--print", "host-tuple"]))?;
    Ok(host.trim().to_owned())
}

/// Runs a command to its end. Returns its standard output.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
