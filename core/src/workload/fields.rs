//! Groups of fields of a Deployment.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::hold_mark::HoldMark;
use crate::image::UnsupportedImage;
use crate::resource_quota::Footprint;
use crate::rollout::Rollout;

/// The images of a template that cannot be prefetched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unsupported {
    /// The first of them, each with the reason.
    pub images: Vec<UnsupportedImage>,
    /// The number of those that are not listed.
    pub more: usize,
}

/// The terms on which images are pulled. Other terms may have another result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PullTerms {
    /// Names of the Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// The ServiceAccount, whose pull secrets apply as well.
    pub service_account: Option<String>,
    /// The RuntimeClass of its pods.
    pub runtime_class: Option<String>,
}

/// The progress of a rollout, and the pause or hold that stops it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolloutState {
    /// The number of pods that the Deployment asks for.
    pub replicas: i32,
    /// The progress of its rollout.
    pub rollout: Rollout,
    /// True if it is paused, by headstart or by another client.
    pub paused: bool,
    /// The hold that it is marked with.
    pub held: Option<HoldMark>,
    /// The pods that it has and may have.
    pub size: RolloutSize,
}

/// The pods of a Deployment, as far as quotas count them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RolloutSize {
    /// The number of pods beyond `replicas` that a rollout may create.
    surge: u64,
    /// The number of pods that are there.
    pods: u64,
    /// The amounts of one pod.
    one: Footprint,
}

impl RolloutState {
    /// Returns the pods that a rollout is still to create: one that is under way, or is held.
    pub fn pods_to_come(&self) -> Footprint {
        let is_under_way = !self.rollout.settled && !self.paused;
        if !is_under_way && self.held.is_none() {
            return Footprint::default();
        }
        let RolloutSize { surge, pods, one } = self.size;
        let replicas = u64::try_from(self.replicas).unwrap_or_default();
        one.times(replicas.saturating_add(surge).saturating_sub(pods))
    }
}

impl RolloutSize {
    /// Reads the size of a Deployment.
    pub(super) fn of(deployment: &Deployment) -> Self {
        let Some(spec) = &deployment.spec else {
            return Self::default();
        };
        let status = deployment.status.as_ref();
        let pods = status.and_then(|status| status.replicas).unwrap_or(0);
        let template = spec.template.spec.as_ref();
        Self {
            surge: surge_of(spec),
            pods: u64::try_from(pods).unwrap_or_default(),
            one: template.map_or_else(Footprint::default, Footprint::of_pod),
        }
    }
}

/// Returns `maxSurge` as a number. A share is rounded up; by default it is a quarter.
fn surge_of(spec: &DeploymentSpec) -> u64 {
    let strategy = spec.strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return 0;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let replicas = u64::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
    match rolling.and_then(|rolling| rolling.max_surge.as_ref()) {
        Some(IntOrString::Int(surge)) => u64::try_from(*surge).unwrap_or_default(),
        Some(IntOrString::String(share)) => {
            let percent: u64 = share.trim_end_matches('%').parse().unwrap_or_default();
            replicas.saturating_mul(percent).div_ceil(100)
        }
        None => replicas.div_ceil(4),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn surge(replicas: i32, strategy: &Value) -> u64 {
        let spec =
            json!({"replicas": replicas, "strategy": strategy, "selector": {}, "template": {}});
        surge_of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn the_surge_is_rounded_up() {
        let rolling =
            |max: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": max}});
        assert_eq!(surge(10, &rolling(json!("25%"))), 3);
        assert_eq!(surge(4, &rolling(json!(2))), 2);
        assert_eq!(surge(4, &rolling(json!("0%"))), 0);
        assert_eq!(surge(5, &Value::Null), 2);
        assert_eq!(surge(5, &json!({"type": "Recreate"})), 0);
    }
}
