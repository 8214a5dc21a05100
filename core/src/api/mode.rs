//! The modes of Deployments and the consents of namespaces: the values of [`PREFETCH_LABEL`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::well_known::PREFETCH_LABEL;
use crate::limits::{VALUE_BYTES, shown};

/// Namespaces that are never touched, with any labels: a prefetch must not compete with the pods of the cluster itself.
const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// The mode of a Deployment, which it requests as a value of [`PREFETCH_LABEL`].
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
    /// Returns whether a rollout's images are prefetched.
    pub fn is_enabled(self) -> bool {
        !matches!(self, Self::Disabled)
    }
}

/// The consent of a namespace, as a value of [`PREFETCH_LABEL`]. Without the label it consents to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NamespaceMode {
    /// Leave all Deployments alone, with any labels of their own.
    Disabled,
    /// Leave them alone, but for those that ask by their own label.
    Allowed,
    /// Prefetch on every rollout, where a Deployment does not ask for something else.
    Enabled,
    /// Likewise, and keep rollouts paused until the images are there.
    Hold,
}

/// The label of a Deployment has a value that is none of the contract's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {PREFETCH_LABEL} has the value {0:?}; use enabled, hold or disabled")]
pub struct UnknownMode(pub String);

/// The label of a namespace has a value that is none of the contract's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "label {PREFETCH_LABEL} of a namespace has the value {0:?}; use allowed, enabled, hold or disabled"
)]
pub struct UnknownNamespaceMode(pub String);

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

impl FromStr for NamespaceMode {
    type Err = UnknownNamespaceMode;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "disabled" => Ok(Self::Disabled),
            "allowed" => Ok(Self::Allowed),
            "enabled" => Ok(Self::Enabled),
            "hold" => Ok(Self::Hold),
            other => Err(UnknownNamespaceMode(shown(other, VALUE_BYTES).into_owned())),
        }
    }
}

impl fmt::Display for NamespaceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Allowed => "allowed",
            Self::Enabled => "enabled",
            Self::Hold => "hold",
        })
    }
}

/// The mode that a Deployment's own labels ask for, `None` where they say nothing.
pub fn mode_from_labels(
    labels: Option<&BTreeMap<String, String>>,
) -> Result<Option<Mode>, UnknownMode> {
    labels
        .and_then(|labels| labels.get(PREFETCH_LABEL))
        .map(|value| value.parse())
        .transpose()
}

/// Returns the consent in a namespace's labels, `None` without the label.
pub fn namespace_mode(
    labels: Option<&BTreeMap<String, String>>,
) -> Result<Option<NamespaceMode>, UnknownNamespaceMode> {
    labels
        .and_then(|labels| labels.get(PREFETCH_LABEL))
        .map(|value| value.parse())
        .transpose()
}

/// The mode of a Deployment: nothing is done without its namespace's consent; with it the Deployment's own label decides, and
/// without one the namespace's.
///
/// A value that the contract does not have opts nothing in: a guess would start pulls without a request.
pub fn effective_mode(
    deployment: &Result<Option<Mode>, UnknownMode>,
    namespace: Option<NamespaceMode>,
) -> Mode {
    let (Some(namespace), Ok(own)) = (namespace, deployment) else {
        return Mode::Disabled;
    };
    match namespace {
        NamespaceMode::Disabled => Mode::Disabled,
        NamespaceMode::Allowed => own.unwrap_or(Mode::Disabled),
        NamespaceMode::Enabled => own.unwrap_or(Mode::Enabled),
        NamespaceMode::Hold => own.unwrap_or(Mode::Hold),
    }
}

/// Returns whether a Deployment asks by its own label for what its namespace has not consented to, nor refused.
pub fn lacks_consent(
    deployment: &Result<Option<Mode>, UnknownMode>,
    namespace: Option<NamespaceMode>,
) -> bool {
    namespace.is_none() && matches!(deployment, Ok(Some(mode)) if mode.is_enabled())
}

/// The command by which a namespace consents.
pub fn consent_command(namespace: &str) -> String {
    format!("kubectl label namespace {namespace} {PREFETCH_LABEL}=allowed")
}

/// Returns whether headstart leaves a namespace alone, with any labels. `own` is headstart's namespace.
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
        use NamespaceMode::{Allowed, Disabled, Enabled, Hold};
        for mode in [Disabled, Allowed, Enabled, Hold] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
    }

    #[test]
    fn nothing_is_done_without_the_namespaces_consent_and_then_the_deployment_decides() {
        use Mode::{Disabled, Enabled, Hold};
        for (namespace, own, wanted) in [
            (None, None, Disabled),
            (None, Some("enabled"), Disabled),
            (None, Some("hold"), Disabled),
            (Some("disabled"), None, Disabled),
            (Some("disabled"), Some("enabled"), Disabled),
            (Some("disabled"), Some("hold"), Disabled),
            (Some("allowed"), None, Disabled),
            (Some("allowed"), Some("enabled"), Enabled),
            (Some("allowed"), Some("hold"), Hold),
            (Some("allowed"), Some("disabled"), Disabled),
            (Some("enabled"), None, Enabled),
            (Some("enabled"), Some("hold"), Hold),
            (Some("enabled"), Some("disabled"), Disabled),
            (Some("hold"), None, Hold),
            (Some("hold"), Some("enabled"), Enabled),
            (Some("hold"), Some("disabled"), Disabled),
            (Some("hold"), Some("yes"), Disabled),
            (Some("enabled"), Some("allowed"), Disabled),
        ] {
            let consent = namespace_mode(namespace.map(labels).as_ref()).unwrap();
            let asked = mode_from_labels(own.map(labels).as_ref());
            let mode = effective_mode(&asked, consent);
            assert_eq!(mode, wanted, "namespace {namespace:?}, own {own:?}");
        }
    }

    #[test]
    fn a_deployment_lacks_consent_where_the_namespace_says_nothing() {
        let asks = |value: &str| mode_from_labels(Some(&labels(value)));
        assert!(lacks_consent(&asks("enabled"), None) && lacks_consent(&asks("hold"), None));
        for own in [Ok(None), asks("disabled"), asks("yes")] {
            assert!(!lacks_consent(&own, None), "{own:?}");
        }
        for said in [NamespaceMode::Disabled, NamespaceMode::Allowed] {
            assert!(!lacks_consent(&asks("hold"), Some(said)), "{said}");
        }
    }

    #[test]
    fn an_unknown_value_opts_nothing_in_and_says_what_would() {
        for value in ["yes", "allowed"] {
            let message = mode_from_labels(Some(&labels(value)))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(&format!("{value:?}"))
                    && message.contains("use enabled, hold or disabled"),
                "{message}"
            );
        }
        let of_namespace = namespace_mode(Some(&labels("yes"))).unwrap_err();
        let message = of_namespace.to_string();
        assert!(
            message.contains("\"yes\"") && message.contains("allowed, enabled, hold or disabled"),
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
