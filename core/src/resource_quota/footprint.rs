//! The amounts of a pod that quotas count.

use std::collections::BTreeMap;
use std::ops::Add;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::scheduling::quantity::parse_milli;

/// A resource that a quota counts and that prefetch pods use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Pods that have not ended.
    Pods,
    /// All stored pods.
    StoredPods,
    /// The CPU that they request.
    RequestedCpu,
    /// The memory that they request.
    RequestedMemory,
    /// The limits of their CPU.
    LimitedCpu,
    /// The limits of their memory.
    LimitedMemory,
}

impl Counted {
    /// Returns the resource by the name that quotas use.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "pods" => Self::Pods,
            "count/pods" => Self::StoredPods,
            "cpu" | "requests.cpu" => Self::RequestedCpu,
            "memory" | "requests.memory" => Self::RequestedMemory,
            "limits.cpu" => Self::LimitedCpu,
            "limits.memory" => Self::LimitedMemory,
            _ => return None,
        })
    }

    /// Returns the name that quotas use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::StoredPods => "count/pods",
            Self::RequestedCpu => "requests.cpu",
            Self::RequestedMemory => "requests.memory",
            Self::LimitedCpu => "limits.cpu",
            Self::LimitedMemory => "limits.memory",
        }
    }

    /// Returns an amount in thousandths as a quantity.
    pub(super) fn shown(self, milli: u64) -> String {
        match self {
            Self::RequestedCpu | Self::LimitedCpu => format!("{milli}m"),
            _ => (milli / 1000).to_string(),
        }
    }
}

/// The amounts of one or more pods that quotas count, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    pods: u64,
    requested: Compute,
    limited: Compute,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Compute {
    cpu: u64,
    memory: u64,
}

impl Footprint {
    /// Returns the amounts of one pod. Limit: without the overhead of its RuntimeClass, and without the defaults of LimitRanges.
    pub fn of_pod(spec: &PodSpec) -> Self {
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let (sidecars, init): (Vec<&Container>, Vec<&Container>) = init
            .iter()
            .partition(|container| container.restart_policy.as_deref() == Some("Always"));
        let running = sidecars.into_iter().chain(&spec.containers);
        let sum = running.fold(
            (Compute::default(), Compute::default()),
            |sum, container| {
                let (requested, limited) = of_container(container);
                (sum.0 + requested, sum.1 + limited)
            },
        );
        let (requested, limited) = init.into_iter().fold(sum, |most, container| {
            let (requested, limited) = of_container(container);
            (most.0.max(requested), most.1.max(limited))
        });
        Self {
            pods: 1000,
            requested,
            limited,
        }
    }

    /// Returns the amounts of so many such pods.
    pub fn times(self, count: u64) -> Self {
        let times = |compute: Compute| Compute {
            cpu: compute.cpu.saturating_mul(count),
            memory: compute.memory.saturating_mul(count),
        };
        Self {
            pods: self.pods.saturating_mul(count),
            requested: times(self.requested),
            limited: times(self.limited),
        }
    }

    /// Returns the amount of one resource.
    pub(super) fn of(&self, resource: Counted) -> u64 {
        match resource {
            Counted::Pods | Counted::StoredPods => self.pods,
            Counted::RequestedCpu => self.requested.cpu,
            Counted::RequestedMemory => self.requested.memory,
            Counted::LimitedCpu => self.limited.cpu,
            Counted::LimitedMemory => self.limited.memory,
        }
    }
}

impl Add for Footprint {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            pods: self.pods.saturating_add(other.pods),
            requested: self.requested + other.requested,
            limited: self.limited + other.limited,
        }
    }
}

impl Add for Compute {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
        }
    }
}

impl Compute {
    fn max(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
        }
    }
}

/// Returns the requests and the limits of a container. A pod requests its limits where its container names only these.
fn of_container(container: &Container) -> (Compute, Compute) {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let read = |of: Option<&BTreeMap<String, Quantity>>, name: &str| {
        of.and_then(|amounts| parse_milli(&amounts.get(name)?.0))
    };
    let limited = |name: &str| read(limits, name).unwrap_or(0);
    let requested = |name: &str| read(requests, name).unwrap_or_else(|| limited(name));
    let both = |of: &dyn Fn(&str) -> u64| Compute {
        cpu: of("cpu"),
        memory: of("memory"),
    };
    (both(&requested), both(&limited))
}
