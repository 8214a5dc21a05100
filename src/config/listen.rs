//! The addresses that `headstart serve` listens on.

use std::net::SocketAddr;

use clap::Args;

/// The addresses that `headstart serve` listens on.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Addresses")]
pub struct ListenConfig {
    /// Address of the webhook (HTTPS)
    #[arg(
        long,
        env = "HEADSTART_LISTEN",
        default_value = "[::]:8443",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,

    /// Address of /livez, /readyz and /metrics (plain HTTP)
    #[arg(
        long,
        env = "HEADSTART_PROBE_LISTEN",
        default_value = "[::]:8080",
        value_name = "ADDRESS"
    )]
    pub probe_listen: SocketAddr,
}
