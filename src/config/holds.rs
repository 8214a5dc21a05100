//! The switch for holds, and the limits for their duration.

use std::time::Duration;

use clap::Args;
use k8s_openapi::jiff::SignedDuration;

use super::values::{HoldFlag, duration};
use headstart_core::hold;

/// The switch for holds, and the limits for their duration.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Holds")]
pub struct HoldConfig {
    /// Hold rollouts where the label says so; `off` resumes those that are held, and needs no right to patch Deployments
    /// once there are none
    #[arg(
        long,
        env = "HEADSTART_HOLD",
        default_value = "on",
        value_name = "SWITCH"
    )]
    pub hold: HoldFlag,

    /// How long a rollout is held at most, unless its annotation says otherwise
    #[arg(long, env = "HEADSTART_HOLD_TIMEOUT", default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub hold_timeout: Duration,

    /// How long a rollout is held at most, whatever its annotation says
    #[arg(long, env = "HEADSTART_MAX_HOLD", default_value = "30m", value_parser = duration, value_name = "DURATION")]
    pub max_hold: Duration,
}

impl HoldConfig {
    /// Returns the limits of holds, `None` if rollouts are not held, or an error that names the flag to change.
    pub fn hold_limits(&self) -> Result<Option<hold::HoldLimits>, String> {
        let (timeout, most) = (self.hold_timeout, self.max_hold);
        if timeout.is_zero() || timeout > most {
            return Err(format!(
                "--hold-timeout is {timeout:?}; want more than zero, and at most --max-hold, which is {most:?}"
            ));
        }
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let limits = hold::HoldLimits {
            default: signed(timeout),
            max: signed(most),
        };
        Ok((self.hold == HoldFlag::On).then_some(limits))
    }
}
