//! Taints and tolerations, as `k8s.io/component-helpers/scheduling/corev1` judges them for the scheduler.

use std::fmt;

use k8s_openapi::api::core::v1;

/// The taints that the node lifecycle controller puts on a node that is down.
const DOWN: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

/// The effect of a taint on pods that do not tolerate it, for scheduling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They are not scheduled there.
    NoSchedule,
    /// They are not scheduled there, nor run there.
    NoExecute,
}

/// A taint that keeps pods away. Those that only discourage (`PreferNoSchedule`) are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    key: Box<str>,
    value: Box<str>,
    effect: Effect,
}

impl Taint {
    /// Reads a taint; `None` if it keeps no pod away.
    pub fn read(taint: &v1::Taint) -> Option<Self> {
        let effect = match taint.effect.as_str() {
            "NoSchedule" => Effect::NoSchedule,
            "NoExecute" => Effect::NoExecute,
            _ => return None,
        };
        Some(Self {
            key: taint.key.as_str().into(),
            value: taint.value.as_deref().unwrap_or_default().into(),
            effect,
        })
    }

    /// The taint by this key, without a value.
    pub(crate) fn new(key: &str, effect: Effect) -> Self {
        Self {
            key: key.into(),
            value: "".into(),
            effect,
        }
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its effect.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Returns whether the taint says that the node is down.
    pub(crate) fn is_of_a_node_that_is_down(&self) -> bool {
        DOWN.contains(&&*self.key)
    }

    /// `Toleration.ToleratesTaint`: an empty key with `Exists` tolerates every taint, an empty effect every effect,
    /// and no operator means `Equal`. `Gt` and `Lt` exist since 1.35, behind a feature gate that is off, and
    /// without it they tolerate nothing.
    pub fn is_tolerated_by(&self, toleration: &v1::Toleration) -> bool {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == self.effect.as_str())
            && (key.is_empty() || key == &*self.key)
            && match toleration.operator.as_deref().unwrap_or_default() {
                "" | "Equal" => toleration.value.as_deref().unwrap_or_default() == &*self.value,
                "Exists" => true,
                _ => false,
            }
    }
}

/// The first taint that none of the tolerations tolerates.
pub fn first_untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[v1::Toleration],
) -> Option<&'a Taint> {
    taints.iter().find(|taint| {
        !tolerations
            .iter()
            .any(|toleration| taint.is_tolerated_by(toleration))
    })
}

/// Returns whether a toleration only lets pods outlast an outage. Kubernetes adds such ones to every pod
/// (DefaultTolerationSeconds). A user who writes them does not mean to start pods on a node that is down.
pub(crate) fn is_default_eviction_toleration(toleration: &v1::Toleration) -> bool {
    toleration.toleration_seconds.is_some()
}

impl Effect {
    fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// As `kubectl describe node` prints it.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, effect } = self;
        f.write_str(key)?;
        if !value.is_empty() {
            write!(f, "={value}")?;
        }
        write!(f, ":{}", effect.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tolerates(toleration: Value, taint: Value) -> bool {
        let taint = Taint::read(&serde_json::from_value(taint).unwrap()).unwrap();
        taint.is_tolerated_by(&serde_json::from_value(toleration).unwrap())
    }

    #[test]
    fn operators_and_what_is_left_empty_mean_what_kubernetes_means() {
        let gpu = json!({"key": "gpu", "value": "5", "effect": "NoExecute"});
        let table = [
            (json!({"key": "gpu", "value": "5"}), true),
            (
                json!({"key": "gpu", "operator": "Equal", "value": "6"}),
                false,
            ),
            (json!({"key": "gpu", "operator": "Exists"}), true),
            (json!({"key": "cpu", "operator": "Exists"}), false),
            (json!({"operator": "Exists"}), true),
            (json!({"value": "5"}), true),
            (json!({"operator": "Exists", "effect": "NoExecute"}), true),
            (json!({"operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"key": "gpu", "operator": "Gt", "value": "4"}), false),
            (json!({"key": "gpu", "operator": "Lt", "value": "6"}), false),
        ];
        for (toleration, expected) in table {
            assert_eq!(
                tolerates(toleration.clone(), gpu.clone()),
                expected,
                "{toleration}"
            );
        }
    }

    #[test]
    fn a_taint_that_only_discourages_is_none() {
        let taint = serde_json::from_value(json!({"key": "a", "effect": "PreferNoSchedule"}));
        assert_eq!(Taint::read(&taint.unwrap()), None);
    }
}
