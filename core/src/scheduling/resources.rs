//! The resources that a pod requests and that a node has for pods, as the scheduler's NodeResourcesFit plugin counts them.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::filter_options::IgnoredResources;
use super::quantity::{MILLI, ONE, parse};
use crate::limits::{ITEMS, SHOWN_BYTES, shown};

#[cfg(test)]
mod tests;

const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// The prefix of resources that are counted in bytes beside memory and storage.
const HUGE_PAGES: &str = "hugepages-";
/// The prefix of resources that DeviceClasses serve. No node has them in its status.
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// Amounts of resources. What is zero is not kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// In thousandths.
    cpu: u64,
    memory: u64,
    ephemeral_storage: u64,
    /// Extended resources, huge pages and the like, in the order of their names.
    scalars: Box<[(Box<str>, u64)]>,
}

/// A resource of which a node has less than one pod requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insufficient<'a> {
    /// Its name.
    pub resource: &'a str,
    /// The amount that a pod requests: thousandths of `cpu`, else units.
    pub requested: u64,
    /// The amount that the node has for all pods.
    pub allocatable: u64,
}

type Amounts<'a> = BTreeMap<&'a str, i128>;

impl Resources {
    /// Returns the request of one pod. A limit without a request is a request, as the API server makes it one. Init containers
    /// run before the containers, and sidecars beside both.
    pub fn requested(pod: &PodSpec) -> Self {
        let mut total = Amounts::new();
        for container in pod.containers.iter().take(ITEMS) {
            add(&mut total, &requests_of(container));
        }
        let (mut sidecars, mut initial) = (Amounts::new(), Amounts::new());
        for container in pod.init_containers.iter().flatten().take(ITEMS) {
            let requests = requests_of(container);
            if container.restart_policy.as_deref() == Some("Always") {
                add(&mut total, &requests);
                add(&mut sidecars, &requests);
                raise(&mut initial, &sidecars);
            } else {
                let mut running = sidecars.clone();
                add(&mut running, &requests);
                raise(&mut initial, &running);
            }
        }
        raise(&mut total, &initial);
        if let Some(of_pod) = &pod.resources {
            set_pod_level(&mut total, of_pod);
        }
        add(&mut total, &amounts(pod.overhead.as_ref()));
        Self::from(total)
    }

    /// Reads `status.allocatable` of a node.
    pub fn allocatable(status: &BTreeMap<String, Quantity>) -> Self {
        Self::from(amounts(Some(status)))
    }

    /// Returns the resources of which a node with this `allocatable` has less than requested. What is in use now does not
    /// count: a rollout frees it.
    pub fn insufficient<'a>(
        &'a self,
        allocatable: &Self,
        ignored: &IgnoredResources,
    ) -> impl Iterator<Item = Insufficient<'a>> {
        let Self {
            cpu,
            memory,
            ephemeral_storage,
            scalars,
        } = self;
        let plain = [
            (CPU, *cpu, allocatable.cpu),
            (MEMORY, *memory, allocatable.memory),
            (
                EPHEMERAL_STORAGE,
                *ephemeral_storage,
                allocatable.ephemeral_storage,
            ),
        ];
        let scalars = scalars.iter().map(move |(name, requested)| {
            let name: &str = name;
            (name, *requested, allocatable.scalar(name))
        });
        let counted = scalars.filter(move |(name, ..)| !ignored.contains(name));
        let all = plain.into_iter().chain(counted);
        all.filter(|(_, requested, allocatable)| requested > allocatable)
            .map(|(resource, requested, allocatable)| Insufficient {
                resource,
                requested,
                allocatable,
            })
    }

    /// Returns the storage of the node that its pods, and mostly its images, share; `None` if it does not say.
    pub(crate) fn ephemeral_storage(&self) -> Option<u64> {
        Some(self.ephemeral_storage).filter(|bytes| *bytes > 0)
    }

    /// Returns the number of extended resources and the like.
    pub(crate) fn scalar_count(&self) -> usize {
        self.scalars.len()
    }

    /// Returns its size in memory beyond itself.
    pub(crate) fn bytes(&self) -> usize {
        let scalars = self.scalars.iter();
        scalars
            .map(|(name, _)| size_of::<(Box<str>, u64)>() + name.len())
            .sum()
    }

    fn scalar(&self, name: &str) -> u64 {
        let found = self
            .scalars
            .binary_search_by(|(known, _)| (**known).cmp(name));
        found
            .ok()
            .and_then(|index| self.scalars.get(index))
            .map_or(0, |(_, amount)| *amount)
    }
}

impl From<Amounts<'_>> for Resources {
    fn from(amounts: Amounts<'_>) -> Self {
        let of = |name: &str, unit: i128| {
            let parts = amounts.get(name).copied().unwrap_or(0).max(0);
            let units = parts / unit + i128::from(parts % unit != 0);
            u64::try_from(units).unwrap_or(u64::MAX)
        };
        let scalars = amounts.keys().filter(|name| is_scalar(name));
        Self {
            cpu: of(CPU, MILLI),
            memory: of(MEMORY, ONE),
            ephemeral_storage: of(EPHEMERAL_STORAGE, ONE),
            scalars: scalars
                .map(|name| (Box::from(*name), of(name, ONE)))
                .filter(|(_, amount)| *amount > 0)
                .collect(),
        }
    }
}

/// Returns whether the scheduler counts a resource by its name, beside those that it knows. A resource of a DeviceClass is not
/// counted, because no node says how much it has.
fn is_scalar(name: &str) -> bool {
    let is_quota = name.starts_with("requests.");
    let counted = name.contains('/') || name.starts_with(HUGE_PAGES);
    (counted || name.starts_with("attachable-volumes-"))
        && !is_quota
        && !name.starts_with(DEVICE_CLASS)
}

/// Returns the requests of a container, and its limits where it requests nothing.
fn requests_of(container: &Container) -> Amounts<'_> {
    let Some(resources) = &container.resources else {
        return Amounts::new();
    };
    let mut requests = amounts(resources.limits.as_ref());
    requests.extend(amounts(resources.requests.as_ref()));
    requests
}

/// Applies the resources of the pod as a whole, which take the place of its containers'. Huge pages follow the limit of the
/// pod, because they cannot be overcommitted.
fn set_pod_level<'a>(total: &mut Amounts<'a>, of_pod: &'a ResourceRequirements) {
    let is_huge = |name: &str| name.starts_with(HUGE_PAGES);
    let is_pod_level = |name: &str| name == CPU || name == MEMORY || is_huge(name);
    for (name, limit) in amounts(of_pod.limits.as_ref()) {
        if is_huge(name) || is_pod_level(name) && !total.contains_key(name) {
            total.insert(name, limit);
        }
    }
    let requests = amounts(of_pod.requests.as_ref()).into_iter();
    total.extend(requests.filter(|(name, _)| is_pod_level(name)));
}

/// Reads quantities. The API server stores each in whole thousandths, rounded up.
fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts<'_> {
    let quantities = quantities.into_iter().flatten();
    let round_up = |parts: i128| -(-parts).div_euclid(MILLI) * MILLI;
    quantities
        .filter_map(|(name, quantity)| Some((name.as_str(), round_up(parse(&quantity.0)?))))
        .collect()
}

fn add<'a>(total: &mut Amounts<'a>, more: &Amounts<'a>) {
    for (name, amount) in more {
        let sum = total.entry(name).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

fn raise<'a>(total: &mut Amounts<'a>, least: &Amounts<'a>) {
    for (name, amount) in least {
        let largest = total.entry(name).or_insert(*amount);
        *largest = (*largest).max(*amount);
    }
}

impl fmt::Display for Insufficient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resource,
            requested,
            allocatable,
        } = *self;
        let name = shown(resource, SHOWN_BYTES);
        write!(f, "a pod wants {name}: ")?;
        amount(resource, requested, true, f)?;
        f.write_str(", the node has ")?;
        match allocatable {
            0 => f.write_str("none"),
            allocatable => amount(resource, allocatable, false, f),
        }
    }
}

/// Prints an amount as people write it. Bytes that fill no unit are rounded to mebibytes.
fn amount(resource: &str, amount: u64, round_up: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const UNITS: [(u64, &str); 3] = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi")];
    let is_bytes =
        [MEMORY, EPHEMERAL_STORAGE].contains(&resource) || resource.starts_with(HUGE_PAGES);
    if resource == CPU {
        return match amount % 1000 {
            0 => write!(f, "{}", amount / 1000),
            _ => write!(f, "{amount}m"),
        };
    }
    if !is_bytes {
        return write!(f, "{amount}");
    }
    match UNITS.iter().find(|(unit, _)| amount.is_multiple_of(*unit)) {
        Some((unit, suffix)) => write!(f, "{}{suffix}", amount / unit),
        None if amount < 1 << 20 => write!(f, "{amount}"),
        None if round_up => write!(f, "{}Mi", amount.div_ceil(1 << 20)),
        None => write!(f, "{}Mi", amount >> 20),
    }
}
