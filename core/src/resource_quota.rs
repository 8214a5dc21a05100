//! ResourceQuotas: how many prefetch pods have room in a namespace beside the pods that its rollouts need.
//!
//! A quota counts a pod as Kubernetes' evaluator does. `count/pods` counts every stored pod; all other resources count only
//! pods that have not ended. A prefetch pod has a deadline and requests, so it is `Terminating` and `NotBestEffort`. The pods
//! of Deployments never have a deadline.

mod footprint;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{ResourceQuota, ScopedResourceSelectorRequirement};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub use footprint::{Counted, Footprint};

use crate::scheduling::quantity::parse_milli;

/// A ResourceQuota, reduced to the resources that prefetch pods use. It is empty if it does not count prefetch pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodQuota {
    amounts: Vec<Amount>,
    /// Its scopes leave the pods of Deployments out.
    skips_rollouts: bool,
    /// The prefetch pods that were visible when this count of the quota became so.
    seen: OwnPods,
}

/// What a quota allows of one resource, and how much of it is used. In thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount {
    resource: Counted,
    hard: u64,
    used: u64,
}

/// The number of prefetch pods in a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnPods {
    /// All.
    pub stored: u64,
    /// Those that have not ended.
    pub unfinished: u64,
}

/// The pods that want room in a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// One more prefetch pod.
    pub one: Footprint,
    /// The prefetch pods that are there.
    pub own: OwnPods,
    /// Those that are being created, and may be counted by the quota already.
    pub creating: u64,
    /// The pods that rollouts are still to create.
    pub rollouts: Footprint,
}

/// The room that quotas leave for one more prefetch pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaRoom {
    /// There is room.
    Free,
    /// Other prefetch pods take it.
    Taken,
    /// There is none even without prefetch pods. Says why.
    None(String),
}

impl PodQuota {
    /// Reads a quota. `priority_class` is that of prefetch pods.
    pub fn from_resource_quota(quota: &ResourceQuota, priority_class: Option<&str>) -> Self {
        let Some(spec) = &quota.spec else {
            return Self::default();
        };
        let scopes = spec.scopes.iter().flatten();
        let exist = scopes.map(|scope| (scope.as_str(), "Exists", &[][..]));
        let selector = spec.scope_selector.as_ref();
        let selected = selector.and_then(|selector| selector.match_expressions.as_deref());
        let selected = selected.unwrap_or_default().iter().map(in_parts);
        let mut skips_rollouts = false;
        for (scope, operator, values) in exist.chain(selected) {
            if !counts_prefetch_pods(scope, operator, values, priority_class) {
                return Self::default();
            }
            skips_rollouts |= scope == "Terminating";
        }
        let status = quota.status.as_ref();
        let enforced = status.and_then(|status| status.hard.as_ref());
        let used = status.and_then(|status| status.used.as_ref());
        let read = |of: Option<&BTreeMap<String, Quantity>>, name: &str| {
            of.and_then(|amounts| parse_milli(&amounts.get(name)?.0))
        };
        let amounts = spec.hard.iter().flatten().filter_map(|(name, hard)| {
            let resource = Counted::by_name(name)?;
            let hard = parse_milli(&hard.0)?;
            // The API server enforces the status, which follows the spec.
            let hard = read(enforced, name).map_or(hard, |enforced| enforced.min(hard));
            // Without a count the quota is not in force yet.
            let used = read(used, name)?;
            Some(Amount {
                resource,
                hard,
                used,
            })
        });
        Self {
            amounts: amounts.collect(),
            skips_rollouts,
            seen: OwnPods::default(),
        }
    }

    /// Returns the quota as it became visible beside these prefetch pods.
    pub fn seen_with(self, seen: OwnPods) -> Self {
        Self { seen, ..self }
    }

    /// Returns whether it counts prefetch pods.
    pub fn is_relevant(&self) -> bool {
        !self.amounts.is_empty()
    }

    /// Returns whether a pod counts after its end.
    pub fn counts_finished_pods(&self) -> bool {
        let mut amounts = self.amounts.iter();
        amounts.any(|amount| amount.resource == Counted::StoredPods)
    }

    /// Returns the room for one more prefetch pod. `name` is that of the quota.
    pub fn room(&self, name: &str, demand: &Demand) -> QuotaRoom {
        let mut room = QuotaRoom::Free;
        for amount in &self.amounts {
            let Amount {
                resource,
                hard,
                used,
            } = *amount;
            let one = demand.one.of(resource);
            let kept = if self.skips_rollouts {
                0
            } else {
                demand.rollouts.of(resource)
            };
            let count = |pods: OwnPods| match resource {
                Counted::StoredPods => pods.stored,
                _ => pods.unfinished,
            };
            let new = count(demand.own).saturating_sub(count(self.seen));
            let own = one.saturating_mul(count(demand.own));
            let new = one.saturating_mul(new);
            let creating = one.saturating_mul(demand.creating);
            let others = used.saturating_sub(own.saturating_add(creating));
            let wanted = kept.saturating_add(one);
            if others.saturating_add(wanted) > hard {
                return QuotaRoom::None(exhausted(name, amount, others, kept));
            }
            // The count may be older than the pods that have become visible since.
            let used = used.saturating_add(new).saturating_add(creating);
            if used.saturating_add(wanted) > hard {
                room = QuotaRoom::Taken;
            }
        }
        room
    }
}

fn in_parts(requirement: &ScopedResourceSelectorRequirement) -> (&str, &str, &[String]) {
    let values = requirement.values.as_deref().unwrap_or_default();
    (&requirement.scope_name, &requirement.operator, values)
}

/// Returns whether a scope of a quota includes prefetch pods.
fn counts_prefetch_pods(
    scope: &str,
    operator: &str,
    values: &[String],
    priority_class: Option<&str>,
) -> bool {
    match scope {
        "Terminating" | "NotBestEffort" => true,
        "PriorityClass" => {
            let is_named =
                priority_class.is_some_and(|own| values.iter().any(|value| value == own));
            match operator {
                "Exists" => priority_class.is_some(),
                "DoesNotExist" => priority_class.is_none(),
                "In" => is_named,
                "NotIn" => !is_named,
                _ => false,
            }
        }
        // NotTerminating, BestEffort, CrossNamespacePodAffinity.
        _ => false,
    }
}

fn exhausted(name: &str, amount: &Amount, others: u64, kept: u64) -> String {
    let Amount { resource, hard, .. } = *amount;
    let shown = |milli| resource.shown(milli);
    let mut text = format!(
        "quota {name} leaves no place for a prefetch pod: {}={}, used by others {}",
        resource.name(),
        shown(hard),
        shown(others)
    );
    if kept > 0 {
        // Writing to a String does not fail.
        let _ = write!(text, ", kept for rollouts {}", shown(kept));
    }
    text
}
