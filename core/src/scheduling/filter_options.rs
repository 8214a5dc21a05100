//! Options that make the filters of nodes more lenient.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::selector::is_label_key;
use super::startup_taints::StartupTaints;
use crate::limits::{SHOWN_BYTES, shown};
use crate::list::items;

/// What plans look through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterOptions {
    /// The taints of nodes that are being set up.
    pub startup_taints: StartupTaints,
    /// The resources that are not counted.
    pub ignored_resources: IgnoredResources,
}

impl FilterOptions {
    /// Returns the options for a rollout that is held. It does not wait for a node on which its pods cannot be scheduled yet.
    pub fn for_hold(&self) -> Self {
        Self {
            startup_taints: StartupTaints::default(),
            ignored_resources: self.ignored_resources.clone(),
        }
    }
}

/// Extended resources that plans do not count, because no node says how much it has of them: a DeviceClass or an extender of
/// the scheduler serves them. The scheduler's NodeResourcesFit plugin has such a list too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoredResources(BTreeSet<String>);

/// Not the name of an extended resource.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no extended resource; want names such as nvidia.com/gpu, separated by commas")]
pub struct InvalidResource(String);

impl IgnoredResources {
    pub(super) fn contains(&self, resource: &str) -> bool {
        self.0.contains(resource)
    }
}

impl FromStr for IgnoredResources {
    type Err = InvalidResource;

    fn from_str(text: &str) -> Result<Self, InvalidResource> {
        let names = items(text).map(|name| {
            let is_name = name.contains('/') && is_label_key(name);
            let invalid = || InvalidResource(shown(name, SHOWN_BYTES).into_owned());
            is_name.then(|| name.to_owned()).ok_or_else(invalid)
        });
        Ok(Self(names.collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for IgnoredResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_printed() {
        let names: IgnoredResources = "nvidia.com/gpu, a.io/b,".parse().unwrap();
        assert_eq!(names.to_string(), "a.io/b,nvidia.com/gpu");
        assert_eq!(names.to_string().parse(), Ok(names));
        for wrong in ["cpu", "nvidia.com/gpu=1", "a/b/c"] {
            let error = wrong.parse::<IgnoredResources>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{wrong:?} is no extended resource")),
                "{error}"
            );
        }
    }
}
