//! The form of prefetch pods, and the time for which they stay.

use std::time::Duration;

use clap::Args;

use super::pod_form::PodFormConfig;
use super::values::duration;

/// The form of prefetch pods, and the time for which they stay.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Prefetch pods")]
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

    /// The form of prefetch pods.
    #[command(flatten)]
    pub form: PodFormConfig,

    /// How long finished prefetch pods stay after the rollout; until then they keep the images from garbage collection
    #[arg(long, env = "HEADSTART_RETAIN", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub retain: Duration,
}
