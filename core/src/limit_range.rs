//! LimitRanges: what a namespace asks of the resources of each container and each pod, and how a prefetch pod meets it.
//!
//! The rules are those of the admission plugin LimitRanger. It adds defaults only where a container says nothing; a prefetch
//! pod's containers name each resource that a LimitRange names, so no default makes them larger.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, LimitRange, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::scheduling::quantity::parse_milli;

#[cfg(test)]
mod tests;

/// The most resources of one LimitRange that are read. Kubernetes has four, and devices are few.
const MAX_RESOURCES: usize = 32;
const MEBIBYTE: u64 = 1 << 20;

/// The bounds of LimitRanges, by resource. Amounts are in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceBounds(BTreeMap<Box<str>, Scopes>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scopes {
    container: Bounds,
    pod: Bounds,
}

/// The bounds for one container, or for the sum of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bounds {
    min: Option<u64>,
    max: Option<u64>,
    /// The most that a limit may be, as a multiple of the request.
    ratio: Option<u64>,
}

/// The amounts of one resource in a container of a prefetch pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amounts {
    request: u64,
    limit: u64,
}

impl ResourceBounds {
    /// Reads a LimitRange. What it says of volume claims does not concern pods.
    pub fn from_limit_range(range: &LimitRange) -> Self {
        let mut bounds = Self::default();
        for item in range.spec.iter().flat_map(|spec| &spec.limits) {
            let scope: fn(&mut Scopes) -> &mut Bounds = match item.type_.as_str() {
                "Container" => |scopes| &mut scopes.container,
                "Pod" => |scopes| &mut scopes.pod,
                _ => continue,
            };
            let mut read = |amounts: &Option<BTreeMap<String, Quantity>>,
                            set: fn(u64) -> Bounds| {
                for (resource, amount) in amounts.iter().flatten() {
                    let read = parse_milli(&amount.0).map_or_else(Bounds::default, set);
                    bounds.tighten(resource, scope, read);
                }
            };
            read(&item.min, |min| Bounds {
                min: Some(min),
                ..Bounds::default()
            });
            read(&item.max, |max| Bounds {
                max: Some(max),
                ..Bounds::default()
            });
            read(&item.max_limit_request_ratio, |ratio| Bounds {
                ratio: Some(ratio),
                ..Bounds::default()
            });
            // A resource with a default is one to name.
            read(&item.default, |_| Bounds::default());
            read(&item.default_request, |_| Bounds::default());
        }
        bounds
    }

    /// Adds the bounds of another LimitRange: all apply.
    pub fn merge(&mut self, other: &Self) {
        for (resource, scopes) in &other.0 {
            self.tighten(resource, |own| &mut own.container, scopes.container);
            self.tighten(resource, |own| &mut own.pod, scopes.pod);
        }
    }

    fn tighten(&mut self, resource: &str, scope: fn(&mut Scopes) -> &mut Bounds, more: Bounds) {
        if self.0.len() >= MAX_RESOURCES && !self.0.contains_key(resource) {
            return;
        }
        let own = scope(self.0.entry(resource.into()).or_default());
        *own = Bounds {
            min: own.min.max(more.min),
            max: smaller(own.max, more.max),
            ratio: smaller(own.ratio, more.ratio),
        };
    }

    /// Sets the requests and limits of a prefetch pod so that they meet the bounds: raised to the minimum, kept below the
    /// maximum, and in the ratio.
    ///
    /// # Errors
    /// Says what cannot be met. Then the pod is unchanged.
    pub fn fit(&self, spec: &mut PodSpec) -> Result<(), String> {
        let Some(container) = spec.containers.first() else {
            return Ok(());
        };
        let count = u64::try_from(spec.containers.len()).unwrap_or(u64::MAX);
        let mut fitted: Vec<(&str, Amounts)> = Vec::new();
        for (resource, scopes) in &self.0 {
            let own = own_amounts(container, resource);
            let amounts = fit_resource(scopes, count, own, Rules::of(resource));
            let amounts = amounts.map_err(|why| why.in_words(resource))?;
            fitted.push((resource, amounts));
        }
        let containers = spec.init_containers.iter_mut().flatten();
        for container in containers.chain(&mut spec.containers) {
            let resources = container.resources.get_or_insert_default();
            for (resource, amounts) in &fitted {
                let set = |of: &mut Option<BTreeMap<String, Quantity>>, amount| {
                    let of = of.get_or_insert_default();
                    of.insert((*resource).to_owned(), quantity(resource, amount));
                };
                set(&mut resources.requests, amounts.request);
                set(&mut resources.limits, amounts.limit);
            }
        }
        Ok(())
    }
}

/// A bound that no prefetch pod meets.
#[derive(Debug, PartialEq, Eq)]
enum Unmet {
    /// The least that is asked for is more than the most that is allowed.
    Contradiction { least: u64, most: u64 },
    /// A container would have to request more than a prefetch pod may.
    TooMuch { needed: u64, most: u64 },
}

impl Unmet {
    fn in_words(&self, resource: &str) -> String {
        let shown = |amount| quantity(resource, amount).0;
        match *self {
            Self::Contradiction { least, most } => format!(
                "each container needs at least {} of {resource}, and may have at most {}",
                shown(least),
                shown(most)
            ),
            Self::TooMuch { needed, most } => format!(
                "each container needs {} of {resource}, and prefetch pods ask for at most {}",
                shown(needed),
                shown(most)
            ),
        }
    }
}

/// Returns the amounts of one resource for each of so many containers. An init container may have the same: the API server
/// counts the larger of it and the sum of the others.
fn fit_resource(
    scopes: &Scopes,
    containers: u64,
    own: Amounts,
    rules: Rules,
) -> Result<Amounts, Unmet> {
    let Scopes { container, pod } = scopes;
    let share = pod.min.map(|min| min.div_ceil(containers));
    let least = rules.round_up(container.min.max(share).unwrap_or(0));
    let most = smaller(container.max, pod.max.map(|max| max / containers)).unwrap_or(u64::MAX);
    let most = most - most % rules.unit;
    let is_asked_for = least > 0 || own.request > 0;
    if most < least || most == 0 && is_asked_for {
        let least = least.max(rules.unit);
        return Err(Unmet::Contradiction { least, most });
    }
    let limit = own.limit.max(least).min(most);
    let mut request = own.request.min(limit).max(least);
    if let Some(ratio) = smaller(container.ratio, pod.ratio) {
        // The API server compares floats, and takes none for zero by zero.
        let spare = u64::from(!ratio.is_multiple_of(1000));
        let needed = limit.saturating_mul(1000).div_ceil(ratio.max(1)) + spare;
        let needed = rules.round_up(needed);
        request = request.max(needed.min(limit)).max(rules.unit);
    }
    if request > rules.most_requested {
        let (needed, most) = (request, rules.most_requested);
        return Err(Unmet::TooMuch { needed, most });
    }
    Ok(Amounts { request, limit })
}

/// Returns the amounts that a container of a prefetch pod has without a LimitRange. Of the node's disk it needs no more than the
/// no-op takes, and of devices none.
fn own_amounts(container: &Container, resource: &str) -> Amounts {
    let resources = container.resources.as_ref();
    let read =
        |amounts: Option<&BTreeMap<String, Quantity>>| parse_milli(&amounts?.get(resource)?.0);
    let request = read(resources.and_then(|resources| resources.requests.as_ref()));
    let limit = read(resources.and_then(|resources| resources.limits.as_ref()));
    let (least, most) = match resource {
        "ephemeral-storage" => (MEBIBYTE * 1000, 256 * MEBIBYTE * 1000),
        _ => (0, 0),
    };
    Amounts {
        request: request.unwrap_or(least),
        limit: limit.unwrap_or(most),
    }
}

/// The rules for one resource.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// The most that a container of a prefetch pod requests: a prefetch takes no room from other pods. headstart's policy for
    /// its own pods has the same limits.
    most_requested: u64,
    /// The smallest amount that a pod can name.
    unit: u64,
}

impl Rules {
    fn of(resource: &str) -> Self {
        let (most_requested, unit) = match resource {
            "cpu" => (500, 1),
            "memory" => (512 * MEBIBYTE * 1000, 1000),
            "ephemeral-storage" => (1024 * MEBIBYTE * 1000, 1000),
            _ => (0, 1000),
        };
        Self {
            most_requested,
            unit,
        }
    }

    fn round_up(self, amount: u64) -> u64 {
        amount.div_ceil(self.unit).saturating_mul(self.unit)
    }
}

fn smaller(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

fn quantity(resource: &str, milli: u64) -> Quantity {
    let whole = milli / 1000;
    Quantity(match resource {
        "cpu" => format!("{milli}m"),
        _ if whole > 0 && whole.is_multiple_of(MEBIBYTE) => format!("{}Mi", whole / MEBIBYTE),
        _ => whole.to_string(),
    })
}
