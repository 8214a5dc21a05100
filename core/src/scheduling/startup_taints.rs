//! The taints of nodes that are being set up. A component that makes a node ready removes its taint from it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::Toleration;
use thiserror::Error;

use super::selector::is_label_key;
use super::tolerations::Taint;
use crate::limits::{SHOWN_BYTES, shown};
use crate::list::items;

/// Most of them. Each is a toleration of every prefetch pod, and the policy headstart-creates-only-prefetch-pods allows 80 in all.
const MAX: usize = 8;

/// The keys of taints that plans look through and that prefetch pods tolerate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartupTaints(BTreeSet<String>);

/// The reason why a list of taints cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidStartupTaints {
    /// Not a key.
    #[error(
        "{0:?} is no key of a taint; want keys without value and effect, separated by commas, such as \
         node.cilium.io/agent-not-ready"
    )]
    Key(String),
    /// More than the policy allows.
    #[error("more than {MAX} taints")]
    TooMany,
}

impl StartupTaints {
    /// Returns whether a taint is one of them.
    pub fn contains(&self, taint: &Taint) -> bool {
        self.0.contains(taint.key())
    }

    /// Returns the tolerations of a prefetch pod: those of its template, and one for each of these taints.
    pub(crate) fn tolerations(&self, of_template: &[Toleration]) -> Vec<Toleration> {
        let own = self.0.iter().map(|key| Toleration {
            key: Some(key.clone()),
            operator: Some("Exists".into()),
            ..Toleration::default()
        });
        let own = own.filter(|toleration| !of_template.contains(toleration));
        of_template.iter().cloned().chain(own).collect()
    }
}

impl FromStr for StartupTaints {
    type Err = InvalidStartupTaints;

    fn from_str(text: &str) -> Result<Self, InvalidStartupTaints> {
        let mut keys = BTreeSet::new();
        for key in items(text) {
            if !is_label_key(key) {
                let key = shown(key, SHOWN_BYTES).into_owned();
                return Err(InvalidStartupTaints::Key(key));
            }
            keys.insert(key.to_owned());
        }
        if keys.len() > MAX {
            return Err(InvalidStartupTaints::TooMany);
        }
        Ok(Self(keys))
    }
}

impl fmt::Display for StartupTaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&keys.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_read_and_printed() {
        let taints: StartupTaints = " node.cilium.io/agent-not-ready, a ,a,".parse().unwrap();
        assert_eq!(taints.to_string(), "a,node.cilium.io/agent-not-ready");
        assert_eq!(taints.to_string().parse(), Ok(taints));
        assert_eq!("".parse(), Ok(StartupTaints::default()));
    }

    #[test]
    fn what_is_no_key_is_named() {
        for wrong in ["a=b:NoSchedule", "a:NoSchedule", "-a", "a/b/c", "A.io/b"] {
            let error = format!("x,{wrong}").parse::<StartupTaints>().unwrap_err();
            let message = error.to_string();
            assert!(
                message.starts_with(&format!(
                    "{wrong:?} is no key of a taint; want keys without"
                )),
                "{message}"
            );
        }
        let nine = "a,b,c,d,e,f,g,h,i".parse::<StartupTaints>();
        assert_eq!(nine.unwrap_err().to_string(), "more than 8 taints");
    }

    #[test]
    fn prefetch_pods_tolerate_them_each_once() {
        let taints: StartupTaints = "a,b".parse().unwrap();
        let own: Vec<Toleration> =
            serde_json::from_value(json!([{"key": "a", "operator": "Exists"}, {"key": "c"}]))
                .unwrap();
        let all = taints.tolerations(&own);
        let keys: Vec<_> = all
            .iter()
            .filter_map(|toleration| toleration.key.as_deref())
            .collect();
        assert_eq!(keys, ["a", "c", "b"]);
        assert_eq!(all[2].operator.as_deref(), Some("Exists"));
        assert_eq!(all[2].effect, None, "of every effect");
    }
}
