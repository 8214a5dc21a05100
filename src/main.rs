//! The command line: one function per subcommand, nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use headstart::Config;
use headstart::cli::{UsageError, certs, noop, plan, release, uninstall};

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Kubernetes rollouts start with their images already on the nodes
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the webhook server and the controller
    Serve(Box<Config>),
    /// Show what would be prefetched where, and why not elsewhere; changes nothing
    Plan(plan::Options),
    /// End holds: rollouts that wait for their images go on
    Release(release::Options),
    /// Remove headstart from a cluster, so that no rollout stays paused
    ///
    /// Deletes the webhook configurations, waits for the last call, resumes every rollout that is held, and then deletes the
    /// namespace and everything else that the manifests install, with the prefetch pods. It resumes before it takes rights away:
    /// if a rollout cannot be resumed, it stops. A step that is done already is no error.
    ///
    /// Exit codes: 0 all is removed, 1 a step failed, 2 a wrong option.
    Uninstall(uninstall::Options),
    /// Write a CA and a server certificate for development
    Certs(certs::Options),
    /// The no-op that prefetch pods run
    #[command(hide = true)]
    Noop,
    /// Copy this binary, for images without a program that can serve as a no-op
    #[command(hide = true)]
    CopySelf {
        /// Path of the copy
        target: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(config) => headstart::run(*config),
        Command::Plan(options) => plan::run(options),
        Command::Release(options) => release::run(options),
        Command::Uninstall(options) => uninstall::run(options),
        Command::Certs(options) => certs::run(options),
        Command::Noop => Ok(()),
        Command::CopySelf { target } => noop::copy_self(&target),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headstart: {error:#}");
            if error.is::<UsageError>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
