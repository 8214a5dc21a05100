//! Flags and environment of `headstart serve`. Every default is here.

use clap::Args;

mod budgets;
mod defaults;
mod holds;
mod installation;
mod listen;
mod pod_form;
mod pods;
mod process;
mod scope;
mod tls;
mod values;

pub(crate) use budgets::BudgetConfig;
pub(crate) use defaults::{DEFAULT_NAMESPACE, DEFAULT_NOOP_IMAGE};
pub(crate) use holds::HoldConfig;
pub(crate) use installation::InstallationConfig;
pub(crate) use listen::ListenConfig;
pub(crate) use pod_form::PodFormConfig;
pub(crate) use pods::PodConfig;
pub(crate) use process::ProcessConfig;
pub(crate) use scope::ScopeConfig;
pub(crate) use tls::TlsConfig;
pub(crate) use values::{LogFormat, duration};

/// The configuration of `headstart serve`, in the order of its help: what an operator chooses first.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// The namespaces, nodes and Deployments that headstart prefetches for, and the refresh interval.
    #[command(flatten)]
    pub scope: ScopeConfig,
    /// The switch for holds, and the limits for their duration.
    #[command(flatten)]
    pub holds: HoldConfig,
    /// The form of prefetch pods, and the time for which they stay.
    #[command(flatten)]
    pub pods: PodConfig,
    /// The limits for writes and pulls at the same time.
    #[command(flatten)]
    pub budgets: BudgetConfig,
    /// The names of headstart's own objects.
    #[command(flatten)]
    pub installation: InstallationConfig,
    /// The addresses that `headstart serve` listens on.
    #[command(flatten)]
    pub listen: ListenConfig,
    /// The serving certificate, the CA that signs it, and the webhook configurations that carry the CA.
    #[command(flatten)]
    pub tls: TlsConfig,
    /// Leader election, shutdown, the API server and the log.
    #[command(flatten)]
    pub process: ProcessConfig,
}

#[cfg(test)]
mod tests;
