//! Flags and environment of `headstart serve`. Every default is here.

use clap::Args;

mod budgets;
mod defaults;
mod holds;
mod installation;
mod listen;
mod pods;
mod process;
mod scope;
mod tls;
mod values;

pub(crate) use budgets::BudgetConfig;
pub(crate) use defaults::{
    DEFAULT_NAMESPACE, DEFAULT_NOOP_IMAGE, DEFAULT_POD_DEADLINE, DEFAULT_PRIORITY_CLASS,
};
pub(crate) use holds::HoldConfig;
pub(crate) use installation::InstallationConfig;
pub(crate) use listen::ListenConfig;
pub(crate) use pods::PodConfig;
pub(crate) use process::ProcessConfig;
pub(crate) use scope::ScopeConfig;
pub(crate) use tls::TlsConfig;
pub(crate) use values::duration;
pub(crate) use values::{LogFormat, PinFlag, PullMethodFlag, ServiceAccountFlag};

/// The configuration of `headstart serve`, in the order of its help.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// The addresses that `headstart serve` listens on.
    #[command(flatten)]
    pub listen: ListenConfig,
    /// The names of headstart's own objects.
    #[command(flatten)]
    pub installation: InstallationConfig,
    /// The serving certificate, the CA that signs it, and the webhook configurations that carry the CA.
    #[command(flatten)]
    pub tls: TlsConfig,
    /// How prefetch pods look, and how long they stay.
    #[command(flatten)]
    pub pods: PodConfig,
    /// How much is written and pulled at once.
    #[command(flatten)]
    pub budgets: BudgetConfig,
    /// The switch for holds, and how long a rollout is held.
    #[command(flatten)]
    pub holds: HoldConfig,
    /// For which namespaces, nodes and Deployments headstart prefetches, and how often.
    #[command(flatten)]
    pub scope: ScopeConfig,
    /// Leader election, shutdown, the API server and the log.
    #[command(flatten)]
    pub process: ProcessConfig,
}

#[cfg(test)]
mod tests;
