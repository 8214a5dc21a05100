//! The names that headstart shares with its users: labels, values, and who is left alone.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::annotation;
use super::limits::{VALUE_BYTES, shown};

/// What the keys of all labels and annotations begin with that are headstart's.
pub const PREFIX: &str = "headstart.dev/";
/// Opts a namespace in, and a Deployment in or out; the Deployment's wins.
pub const PREFETCH_LABEL: &str = "headstart.dev/prefetch";
/// On a Deployment whose rollout headstart holds, with [`HELD_VALUE`] as its value.
pub const HELD_LABEL: &str = "headstart.dev/held";
/// The value of [`HELD_LABEL`].
pub const HELD_VALUE: &str = "true";
/// On a held Deployment: when the hold ends at the latest (RFC 3339).
pub const HELD_UNTIL: &str = "headstart.dev/held-until";
/// On a held Deployment: when the hold began (RFC 3339).
pub const HELD_SINCE: &str = "headstart.dev/held-since";
/// On every prefetch pod, with [`MANAGER`] as its value.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`], and the name headstart reports under.
pub const MANAGER: &str = "headstart";
/// On every prefetch pod: the Deployment it pulls for.
pub const DEPLOYMENT_LABEL: &str = "headstart.dev/deployment";
/// On every prefetch pod: the [`Revision`](super::workload::Revision) of the images it pulls.
pub const REVISION_LABEL: &str = "headstart.dev/revision";
/// On every prefetch pod: its node's name, which can be too long for a label. Pinned by affinity, the pod names it
/// nowhere else until it is scheduled.
pub const NODE_ANNOTATION: &str = "headstart.dev/node";

/// All labels and annotations of a Deployment that are read or set.
pub const KEYS: [&str; 10] = [
    PREFETCH_LABEL,
    HELD_LABEL,
    HELD_UNTIL,
    HELD_SINCE,
    annotation::NODE_SELECTOR,
    annotation::MAX_NODES,
    annotation::REFRESH,
    annotation::IMAGES,
    annotation::HOLD_TIMEOUT,
    annotation::HOLD_UNTIL,
];

/// Namespaces that are never touched, whatever their labels say: a prefetch must not compete with what
/// the cluster itself runs on.
const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// What the label [`PREFETCH_LABEL`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Leave this Deployment alone.
    Disabled,
    /// Prefetch on every rollout.
    Enabled,
    /// Prefetch, and keep the rollout paused until the images are there.
    Hold,
}

impl Mode {
    /// Whether a rollout's images are prefetched.
    pub fn prefetches(self) -> bool {
        !matches!(self, Self::Disabled)
    }
}

/// The label has a value that is none of the contract's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {PREFETCH_LABEL} has the value {0:?}; use enabled, hold or disabled")]
pub struct UnknownMode(pub String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "enabled" => Ok(Self::Enabled),
            "hold" => Ok(Self::Hold),
            "disabled" => Ok(Self::Disabled),
            other => Err(UnknownMode(shown(other, VALUE_BYTES).into_owned())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Hold => "hold",
        })
    }
}

/// The mode that an object's own labels ask for, `None` where it says nothing.
pub fn labelled_mode(
    labels: Option<&BTreeMap<String, String>>,
) -> Result<Option<Mode>, UnknownMode> {
    labels
        .and_then(|labels| labels.get(PREFETCH_LABEL))
        .map(|value| value.parse())
        .transpose()
}

/// The mode of a Deployment: its own label, else its namespace's, else nothing is done.
///
/// A value that is none of the contract's opts nothing in: guessing would start pulls nobody asked for.
pub fn effective_mode(
    deployment: &Result<Option<Mode>, UnknownMode>,
    namespace: Option<Mode>,
) -> Mode {
    match deployment {
        Ok(Some(mode)) => *mode,
        Ok(None) => namespace.unwrap_or(Mode::Disabled),
        Err(UnknownMode(_)) => Mode::Disabled,
    }
}

/// Whether a namespace is left alone whatever its labels say. `own` is headstart's.
pub fn is_exempt(namespace: &str, own: &str) -> bool {
    namespace == own || SYSTEM_NAMESPACES.contains(&namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(PREFETCH_LABEL.to_owned(), value.to_owned())])
    }

    #[test]
    fn every_mode_reads_back_what_it_prints() {
        for mode in [Mode::Disabled, Mode::Enabled, Mode::Hold] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
    }

    #[test]
    fn the_deployments_label_wins_over_the_namespaces() {
        let disabled = labelled_mode(Some(&labels("disabled")));
        let enabled = labelled_mode(Some(&labels("enabled")));
        assert_eq!(
            effective_mode(&disabled, Some(Mode::Enabled)),
            Mode::Disabled
        );
        assert_eq!(effective_mode(&enabled, None), Mode::Enabled);
        assert_eq!(effective_mode(&Ok(None), Some(Mode::Hold)), Mode::Hold);
        assert_eq!(effective_mode(&Ok(None), None), Mode::Disabled);
    }

    #[test]
    fn an_unknown_value_opts_nothing_in_and_says_what_would() {
        let unknown = labelled_mode(Some(&labels("yes")));
        assert_eq!(
            effective_mode(&unknown, Some(Mode::Enabled)),
            Mode::Disabled
        );
        let message = unknown.unwrap_err().to_string();
        assert!(
            message.contains("\"yes\"") && message.contains("enabled, hold or disabled"),
            "{message}"
        );
    }

    #[test]
    fn system_namespaces_and_our_own_are_exempt() {
        assert!(is_exempt("kube-system", "headstart"));
        assert!(is_exempt("headstart", "headstart"));
        assert!(!is_exempt("shop", "headstart"));
    }
}
