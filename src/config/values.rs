//! Values of flags.

use std::time::Duration;

use clap::ValueEnum;
use k8s_openapi::jiff::SignedDuration;

use headstart_core::pod::{NodeBinding, RunAs};
use headstart_core::scheduling::node::PullMethod;

/// `--pull-method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullMethodFlag {
    /// The best that each node can.
    Auto,
    /// Image volumes.
    ImageVolume,
    /// Containers that run a static no-op.
    Container,
}

impl PullMethodFlag {
    /// The method for every node, `None` to choose for each.
    pub fn forced(self) -> Option<PullMethod> {
        match self {
            Self::Auto => None,
            Self::ImageVolume => Some(PullMethod::ImageVolume),
            Self::Container => Some(PullMethod::Container),
        }
    }
}

/// `--pin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PinFlag {
    /// spec.nodeName.
    NodeName,
    /// Required node affinity.
    Affinity,
}

impl From<PinFlag> for NodeBinding {
    fn from(flag: PinFlag) -> Self {
        match flag {
            PinFlag::NodeName => Self::NodeName,
            PinFlag::Affinity => Self::Affinity,
        }
    }
}

/// `--service-account`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServiceAccountFlag {
    /// The namespace's `default`.
    Default,
    /// The workload's own.
    Workload,
}

impl From<ServiceAccountFlag> for RunAs {
    fn from(flag: ServiceAccountFlag) -> Self {
        match flag {
            ServiceAccountFlag::Default => Self::Default,
            ServiceAccountFlag::Workload => Self::Workload,
        }
    }
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `--hold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HoldFlag {
    /// Where it is asked for.
    On,
    /// Never; rollouts that wait are resumed.
    Off,
}

/// Reads a duration as Go and Kubernetes write it.
pub(crate) fn duration(value: &str) -> Result<Duration, String> {
    value
        .parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "want a duration such as 90s, 10m or 1h30m".to_owned())
}

/// Shorter, and pods would come and go all the time.
pub(super) fn refresh(value: &str) -> Result<SignedDuration, String> {
    match SignedDuration::try_from(duration(value)?) {
        Ok(duration) if duration >= SignedDuration::from_mins(1) => Ok(duration),
        _ => Err("want a duration of at least 1m".to_owned()),
    }
}

/// A Lease counts in whole seconds, and renewals need some room within it. The policy headstart-writes-only-its-lease
/// refuses a longer one.
pub(super) fn lease_duration(value: &str) -> Result<Duration, String> {
    let duration = duration(value)?;
    let (shortest, longest) = (Duration::from_secs(2), Duration::from_secs(60));
    if !(shortest..=longest).contains(&duration) || duration.subsec_nanos() != 0 {
        return Err("want whole seconds, from 2s to 60s".to_owned());
    }
    Ok(duration)
}

/// The policy headstart-creates-only-prefetch-pods refuses a pod with a later deadline.
pub(super) fn pod_deadline(value: &str) -> Result<Duration, String> {
    let duration = duration(value)?;
    if duration > Duration::from_secs(2 * 3600) {
        return Err("want a duration of at most 2h".to_owned());
    }
    Ok(duration)
}
