//! The limits for writes and pulls at the same time.

use clap::Args;

/// The limits for writes and pulls at the same time.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct BudgetConfig {
    /// Most writes of pods in flight; an API server serves no more creates per second beyond about this many
    #[arg(long, env = "HEADSTART_MAX_WRITES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "N")]
    pub max_writes: u16,

    /// Most nodes that pull at once in the whole cluster; 0 for no limit. The default: rollouts are waited for, and their own
    /// pods would pull all at once too
    #[arg(
        long,
        env = "HEADSTART_MAX_PULLING_NODES",
        default_value_t = 0,
        value_name = "N"
    )]
    pub max_pulling_nodes: u32,

    /// Most nodes that pull from one registry at once; 0 for no limit. The default: registries are sized for rollouts; set it
    /// where one counts pulls by address, or is behind a thin line
    #[arg(
        long,
        env = "HEADSTART_MAX_PULLS_PER_REGISTRY",
        default_value_t = 0,
        value_name = "N"
    )]
    pub max_pulls_per_registry: u32,

    /// Most prefetch pods of one namespace on one node that are not done; of all namespaces, 3 or this number, whichever is more.
    /// The default: a kubelet pulls one image after another, and what is behind others in its queue cannot be called off
    #[arg(long, env = "HEADSTART_PODS_PER_NODE", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..), value_name = "N")]
    pub pods_per_node: u8,
}
