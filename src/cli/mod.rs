//! The subcommands that do one thing and end.

pub mod certs;
pub mod noop;
