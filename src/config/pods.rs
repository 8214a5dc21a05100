//! The form of prefetch pods, and the time for which they stay.

use std::time::Duration;

use clap::Args;

use super::defaults::{DEFAULT_POD_DEADLINE, DEFAULT_PRIORITY_CLASS};
use super::values::{PinFlag, PullMethodFlag, ServiceAccountFlag, duration, pod_deadline};

/// The form of prefetch pods, and the time for which they stay.
#[derive(Args, Clone, Debug)]
pub struct PodConfig {
    /// Image of headstart, whose no-op the prefetch pods run. The manifests set it to the image that they install
    #[arg(long, env = "HEADSTART_NOOP_IMAGE", value_name = "IMAGE")]
    pub noop_image: Option<String>,

    /// Create no pods and hold nothing unless the API server enforces headstart's ValidatingAdmissionPolicies, which a
    /// self-test tries at the start and every hour
    #[arg(
        long,
        env = "HEADSTART_REQUIRE_POLICIES",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub require_policies: bool,

    /// How images are pulled: `auto` takes image volumes on nodes that have them, else containers
    #[arg(
        long,
        env = "HEADSTART_PULL_METHOD",
        default_value = "auto",
        value_name = "METHOD"
    )]
    pub pull_method: PullMethodFlag,

    /// How prefetch pods get to their node: `affinity` goes through the scheduler, for clusters that forbid spec.nodeName
    #[arg(
        long,
        env = "HEADSTART_PIN",
        default_value = "node-name",
        value_name = "WAY"
    )]
    pub pin: PinFlag,

    /// ServiceAccount of prefetch pods: the namespace's `default` (with the pull secrets of the workload's), or the `workload`'s
    /// own, for kubelets that ask for registry credentials in its name. Any node may then ask for tokens of it: a prefetch puts a
    /// pod on every node
    #[arg(
        long,
        env = "HEADSTART_SERVICE_ACCOUNT",
        default_value = "default",
        value_name = "WHICH"
    )]
    pub service_account: ServiceAccountFlag,

    /// PriorityClass of prefetch pods; empty for none
    #[arg(
        long,
        env = "HEADSTART_PRIORITY_CLASS",
        default_value = DEFAULT_PRIORITY_CLASS,
        value_name = "NAME"
    )]
    pub priority_class: String,

    /// How long finished prefetch pods stay after the rollout; until then they keep the images from garbage collection
    #[arg(long, env = "HEADSTART_RETAIN", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub retain: Duration,

    /// When the kubelet ends a prefetch pod that is not done
    #[arg(long, env = "HEADSTART_POD_DEADLINE", default_value = DEFAULT_POD_DEADLINE, value_parser = pod_deadline, value_name = "DURATION")]
    pub pod_deadline: Duration,
}
