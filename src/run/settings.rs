//! The settings of pods and of the controller, from the configuration.

use std::sync::Arc;

use anyhow::{Result, bail};
use headstart_core::controller::{ControllerConfig, PullLimits};
use headstart_core::hold::HoldLimits;
use headstart_core::pod::PodSettings;
use k8s_openapi::jiff::SignedDuration;

use crate::config::{Config, PodConfig};

/// Prefetch pods of all namespaces on one node that are not done, unless one namespace alone may have more. A pull that hangs in
/// one namespace leaves room for those of others.
const PODS_PER_NODE_IN_ALL: u8 = 3;

/// Deployments of one namespace that pull at the same time. Each takes memory for each node.
const MAX_DEPLOYMENTS: usize = 100;
/// Prefetch pods in the cluster that have ended. When there are more than 12,500 of all owners, Kubernetes' pod garbage collector deletes
/// those of others, too.
const MAX_ENDED_PODS: usize = 5000;

/// Returns the settings of all prefetch pods.
pub(super) fn pod_settings(pods: &PodConfig) -> Result<PodSettings> {
    let noop_image = pods.noop_image.clone();
    let Some(noop_image) = noop_image.filter(|image| !image.is_empty()) else {
        bail!(
            "--noop-image is not set: give the image of headstart that prefetch pods run, or set HEADSTART_NOOP_IMAGE, \
             which the manifests do"
        );
    };
    Ok(pods.form.settings(&noop_image))
}

/// Returns the settings of the controller.
pub(super) fn controller_config(
    config: &Config,
    holds: Option<HoldLimits>,
    pods: Arc<PodSettings>,
) -> ControllerConfig {
    let (budgets, scope) = (&config.budgets, &config.scope);
    ControllerConfig {
        retain: SignedDuration::try_from(config.pods.retain).unwrap_or(SignedDuration::MAX),
        limits: PullLimits {
            nodes: to_usize(budgets.max_pulling_nodes),
            per_registry: to_usize(budgets.max_pulls_per_registry),
            per_node: usize::from(budgets.pods_per_node),
            per_node_in_all: usize::from(budgets.pods_per_node.max(PODS_PER_NODE_IN_ALL)),
            deployments: MAX_DEPLOYMENTS,
            ended: MAX_ENDED_PODS,
        },
        refresh: scope.refresh,
        new_node_deployments: usize::from(scope.new_node_deployments),
        holds,
        max_writes: usize::from(budgets.max_writes),
        pods,
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use headstart_core::testing::settings;
    use std::time::Duration;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn flags_set_the_limits_of_the_controller() {
        let cli = Cli::parse_from([
            "serve",
            "--max-pulling-nodes=7",
            "--max-pulls-per-registry=4",
            "--pods-per-node=3",
            "--max-writes=5",
            "--new-node-deployments=6",
            "--retain=90s",
            "--refresh=10m",
        ]);
        let config = controller_config(&cli.config, None, settings().into());
        let limits = PullLimits {
            nodes: 7,
            per_registry: 4,
            per_node: 3,
            per_node_in_all: 3,
            deployments: 100,
            ended: 5000,
        };
        assert_eq!(config.limits, limits);
        assert_eq!((config.max_writes, config.new_node_deployments), (5, 6));
        let retain = Duration::try_from(config.retain);
        assert_eq!(retain.unwrap(), Duration::from_secs(90));
        assert_eq!(config.refresh, Some(SignedDuration::from_mins(10)));
    }
}
