//! The subcommands that do one thing and end.

use anyhow::Result;

pub mod certs;
pub(crate) mod manifest;
pub mod noop;
pub mod plan;
pub mod release;
pub mod uninstall;

/// Runs a command that asks the API server.
fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    // Fails if a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(command)
}

/// The command line, or a file that it names, is not as it must be: exit code 2, as for a flag that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
