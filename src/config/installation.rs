//! The names of headstart's own objects.

use clap::Args;

use super::defaults::DEFAULT_NAMESPACE;

/// The names of headstart's own objects.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Installation")]
pub struct InstallationConfig {
    /// headstart's own namespace: holds its lease and its CA, and is never prefetched for
    #[arg(long, env = "POD_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,

    /// Name of this replica, unique among them [default: the host's name and a random part]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// headstart's own Deployment, on which events say what is wrong with the installation
    #[arg(
        long,
        env = "HEADSTART_DEPLOYMENT",
        default_value = "headstart",
        value_name = "NAME"
    )]
    pub deployment: String,

    /// Service that the API server calls; the certificate is made out to SERVICE.NAMESPACE.svc
    #[arg(long, env = "HEADSTART_SERVICE", default_value = "headstart")]
    pub service: String,
}
