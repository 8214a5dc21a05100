//! The labels and annotations of prefetch pods: headstart's own, and those that options add for the policies of a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::name::deployment_label;
use crate::api::well_known::{
    DEPLOYMENT_LABEL, MANAGED_BY_LABEL, MANAGER, NODE_ANNOTATION, PREFIX, REVISION_LABEL,
};
use crate::limits::{SHOWN_BYTES, shown};
use crate::list::items;
use crate::scheduling::selector::{is_label_key, is_label_value};
use crate::workload::Workload;

/// The cluster-autoscaler removes a node only if each pod there may go. A controller that is a Deployment does not tell it so.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Labels and annotations by which sidecar injectors are told to stay out: a sidecar would need an image of
/// its own and never end.
const INJECTION_OPT_OUT: [(&str, &str); 5] = [
    ("sidecar.istio.io/inject", "false"),
    ("linkerd.io/inject", "disabled"),
    ("kuma.io/sidecar-injection", "disabled"),
    ("consul.hashicorp.com/connect-inject", "false"),
    ("dapr.io/enabled", "false"),
];
/// With this annotation Karpenter would keep the node of a prefetch pod.
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// Annotations that take the confinement from a container. A policy of headstart's refuses them.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Most labels or annotations that an option adds. Each pod has them.
const MAX_ENTRIES: usize = 16;
/// Longest value of an annotation that an option adds, in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// Returns the labels of a prefetch pod. headstart's own win.
pub(super) fn labels(workload: &Workload, added: &PodLabels) -> BTreeMap<String, String> {
    let own = [
        (MANAGED_BY_LABEL, MANAGER.to_owned()),
        (DEPLOYMENT_LABEL, deployment_label(&workload.key.name)),
        (REVISION_LABEL, workload.image_set.to_string()),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value));
    let added = added.0.clone().into_iter();
    added.chain(injection_opt_out()).chain(own).collect()
}

/// Returns the annotations of a prefetch pod. headstart's own win.
pub(super) fn annotations(node: &str, added: &PodAnnotations) -> BTreeMap<String, String> {
    let own = [(NODE_ANNOTATION, node), (SAFE_TO_EVICT, "true")];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let added = added.0.clone().into_iter();
    added.chain(injection_opt_out()).chain(own).collect()
}

fn injection_opt_out() -> impl Iterator<Item = (String, String)> {
    let pairs = INJECTION_OPT_OUT.iter();
    pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
}

/// Labels that each prefetch pod gets beside headstart's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodLabels(BTreeMap<String, String>);

/// Annotations that each prefetch pod gets beside headstart's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAnnotations(BTreeMap<String, String>);

/// The reason why added labels or annotations cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidPodMetadata {
    /// A part without a value.
    #[error(
        "{0:?} is not of the form KEY=VALUE; want such pairs, separated by commas, without a comma in a value"
    )]
    NoPair(String),
    /// Not a key.
    #[error(
        "{0:?} is no key; want a name of at most 63 letters, digits, -, _ and ., with or without a DNS name and / before it, \
         such as example.com/team"
    )]
    Key(String),
    /// Not a value of a label.
    #[error(
        "{value:?} is no value of the label {key}; want at most 63 letters, digits, -, _ and ., with a letter or digit at \
         both ends"
    )]
    LabelValue {
        /// The key.
        key: String,
        /// The beginning of the value.
        value: String,
    },
    /// Too long a value of an annotation.
    #[error("the value of the annotation {0} has more than {MAX_VALUE_BYTES} bytes")]
    AnnotationValue(String),
    /// A key that headstart uses.
    #[error("headstart sets {0} itself; leave it out")]
    Reserved(String),
    /// A key that does harm on a pod of every node.
    #[error("{0} keeps nodes from going, and prefetch pods are on all of them; leave it out")]
    KeepsNodes(String),
    /// A key that a policy of headstart's refuses.
    #[error(
        "{0} takes away the confinement of prefetch pods, and a policy of headstart's refuses it; leave it out"
    )]
    Unconfined(String),
    /// A key with two values.
    #[error("{0} has two values")]
    Twice(String),
    /// More than each pod should have.
    #[error("more than {MAX_ENTRIES} pairs")]
    TooMany,
}

impl FromStr for PodLabels {
    type Err = InvalidPodMetadata;

    fn from_str(text: &str) -> Result<Self, InvalidPodMetadata> {
        read(text, |key, value| {
            is_label_value(value)
                .then_some(())
                .ok_or_else(|| InvalidPodMetadata::LabelValue {
                    key: key.to_owned(),
                    value: cut(value),
                })
        })
        .map(Self)
    }
}

impl FromStr for PodAnnotations {
    type Err = InvalidPodMetadata;

    fn from_str(text: &str) -> Result<Self, InvalidPodMetadata> {
        read(text, |key, value| {
            (value.len() <= MAX_VALUE_BYTES)
                .then_some(())
                .ok_or_else(|| InvalidPodMetadata::AnnotationValue(key.to_owned()))
        })
        .map(Self)
    }
}

/// Reads pairs, each of which passes the check.
fn read(
    text: &str,
    check: impl Fn(&str, &str) -> Result<(), InvalidPodMetadata>,
) -> Result<BTreeMap<String, String>, InvalidPodMetadata> {
    let mut read = BTreeMap::new();
    for pair in items(text) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| InvalidPodMetadata::NoPair(cut(pair)))?;
        let (key, value) = (key.trim(), value.trim());
        check_key(key)?;
        check(key, value)?;
        if read.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(InvalidPodMetadata::Twice(key.to_owned()));
        }
    }
    if read.len() > MAX_ENTRIES {
        return Err(InvalidPodMetadata::TooMany);
    }
    Ok(read)
}

fn check_key(key: &str) -> Result<(), InvalidPodMetadata> {
    if !is_label_key(key) {
        return Err(InvalidPodMetadata::Key(cut(key)));
    }
    let is_own = key.starts_with(PREFIX)
        || [MANAGED_BY_LABEL, SAFE_TO_EVICT].contains(&key)
        || INJECTION_OPT_OUT.iter().any(|(own, _)| *own == key);
    if is_own {
        return Err(InvalidPodMetadata::Reserved(key.to_owned()));
    }
    if key == DO_NOT_DISRUPT {
        return Err(InvalidPodMetadata::KeepsNodes(key.to_owned()));
    }
    if key.starts_with(APP_ARMOR) {
        return Err(InvalidPodMetadata::Unconfined(key.to_owned()));
    }
    Ok(())
}

fn cut(text: &str) -> String {
    shown(text, SHOWN_BYTES).into_owned()
}

fn write(pairs: &BTreeMap<String, String>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    f.write_str(&pairs.join(","))
}

impl fmt::Display for PodLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(&self.0, f)
    }
}

impl fmt::Display for PodAnnotations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::wants;

    fn refusal(text: &str) -> String {
        text.parse::<PodLabels>().unwrap_err().to_string()
    }

    #[test]
    fn pairs_are_read_and_printed() {
        let labels: PodLabels = "team=shop, example.com/cost-centre=42,empty=,"
            .parse()
            .unwrap();
        assert_eq!(
            labels.to_string(),
            "empty=,example.com/cost-centre=42,team=shop"
        );
        assert_eq!(labels.to_string().parse(), Ok(labels));
        assert_eq!("".parse(), Ok(PodLabels::default()));
        let annotations: PodAnnotations = "a.io/url=https://x/?a=b c".parse().unwrap();
        assert_eq!(annotations.to_string(), "a.io/url=https://x/?a=b c");
        assert_eq!(annotations.to_string().parse(), Ok(annotations));
    }

    #[test]
    fn what_cannot_be_added_is_refused_by_name() {
        for (text, phrase) in [
            ("team", "\"team\" is not of the form KEY=VALUE"),
            ("a=b,c", "\"c\" is not of the form"),
            ("-a=b", "\"-a\" is no key; want"),
            ("=b", "\"\" is no key"),
            (
                "a=b c",
                "\"b c\" is no value of the label a; want at most 63",
            ),
            ("a=b,a=c", "a has two values"),
            (
                "headstart.dev/deployment=web",
                "headstart sets headstart.dev/deployment itself",
            ),
            ("headstart.dev/anything=web", "headstart sets"),
            (
                "app.kubernetes.io/managed-by=me",
                "headstart sets app.kubernetes.io/managed-by",
            ),
            (
                "linkerd.io/inject=enabled",
                "headstart sets linkerd.io/inject itself",
            ),
            (
                "cluster-autoscaler.kubernetes.io/safe-to-evict=false",
                "headstart sets",
            ),
            ("karpenter.sh/do-not-disrupt=true", "keeps nodes from going"),
            (
                "container.apparmor.security.beta.kubernetes.io/image-0=unconfined",
                "confinement",
            ),
        ] {
            let refusal = refusal(text);
            assert!(
                refusal.starts_with(phrase) || refusal.contains(phrase),
                "{text}: {refusal}"
            );
        }
        let many: Vec<String> = (0..17).map(|i| format!("k{i}=v")).collect();
        assert_eq!(refusal(&many.join(",")), "more than 16 pairs");
        let long = format!("a={}", "v".repeat(257)).parse::<PodAnnotations>();
        assert!(
            long.unwrap_err()
                .to_string()
                .contains("more than 256 bytes")
        );
    }

    #[test]
    fn pods_have_what_is_added_and_headstarts_own() {
        let labels = labels(&wants(&["a:1"]), &"team=shop".parse().unwrap());
        assert_eq!(labels["team"], "shop");
        assert_eq!(labels[MANAGED_BY_LABEL], MANAGER);
        assert_eq!(labels[DEPLOYMENT_LABEL], "web");
        let annotations = annotations("n1", &"example.com/owner=shop".parse().unwrap());
        assert_eq!(annotations["example.com/owner"], "shop");
        assert_eq!(annotations[NODE_ANNOTATION], "n1");
        assert!(!annotations.contains_key("team"));
    }
}
