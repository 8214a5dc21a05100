//! Leader election, shutdown, the API server and the log.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{LogFormat, duration, lease_duration};

/// Leader election, shutdown, the API server and the log.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Process")]
pub struct ProcessConfig {
    // client-go's 15 s are for controllers whose work is lost in a restart. A prefetch that starts 15 s late is of no use to a
    // rollout, and a lost lease costs a list. So the lease lasts 6 s and is renewed every 0.8 s, and four renewals may be
    // lost.
    /// How long a leader's lease is valid after its last renewal; a standby takes over a crashed leader after it
    #[arg(long, env = "HEADSTART_LEASE_DURATION", default_value = "6s", value_parser = lease_duration, value_name = "DURATION")]
    pub lease_duration: Duration,

    /// How long reviews are still served after SIGTERM, until the API server has stopped sending them
    #[arg(long, env = "HEADSTART_DRAIN", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub drain: Duration,

    /// Kubeconfig to use instead of the pod's service account
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Form of the log on standard error
    #[arg(
        long,
        env = "HEADSTART_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}
