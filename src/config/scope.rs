//! The namespaces, nodes and Deployments that headstart prefetches for, and the refresh interval.

use clap::Args;
use k8s_openapi::jiff::SignedDuration;

use super::values::refresh;

/// The namespaces, nodes and Deployments that headstart prefetches for, and the refresh interval.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What is prefetched, and when")]
pub struct ScopeConfig {
    /// Prefetch again this often, unless a Deployment's annotation says otherwise: heals images that a node evicted, at the
    /// price of a pod per node and Deployment each time [default: never]
    #[arg(long, env = "HEADSTART_REFRESH", value_parser = refresh, value_name = "DURATION")]
    pub refresh: Option<SignedDuration>,

    /// Skip nodes that report all images of a Deployment in their status. A hint, and used only for images that are not
    /// pulled always and Deployments without imagePullSecrets: with them, only a prefetch proves the right to use the image
    #[arg(
        long,
        env = "HEADSTART_TRUST_NODE_IMAGES",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub trust_node_images: bool,

    /// For how many Deployments a node that joins is warmed, those with most replicas first; 0 for none. The default: what a
    /// node usually runs, and a fraction of its pod slots
    #[arg(
        long,
        env = "HEADSTART_NEW_NODE_DEPLOYMENTS",
        default_value_t = 20,
        value_name = "N"
    )]
    pub new_node_deployments: u16,

    /// Namespaces to look at, and no others (comma-separated) [default: all]
    #[arg(
        long,
        env = "HEADSTART_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub namespaces: Vec<String>,
}
