//! The subcommands that do one thing and end.

pub mod certs;
pub(crate) mod manifest;
pub mod noop;
pub mod plan;
pub mod release;

/// The command line, or a file that it names, is not as it must be: exit code 2, as for a flag that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
