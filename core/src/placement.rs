//! Where the pods of a template could be scheduled now: the scheduler's filters, not its scores.
//!
//! `nodeName`, `nodeSelector`, required node affinity, taints and cordon are judged as the scheduler does. On top, a
//! node must be one that can pull: Ready, a real machine, of our operating system, not short of anything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::affinity::RequiredAffinity;
use super::annotation::{InvalidAnnotation, MAX_NODES, MaxNodes, NODE_SELECTOR};
use super::labels::Labels;
use super::limits::{SHOWN_BYTES, printed, shown};
use super::node::{NodeInfo, UnusableReason};
use super::selector::Requirement;
use super::toleration::{Effect, Taint, first_untolerated, is_default_eviction_toleration};

#[cfg(test)]
mod tests;

/// The taint that a cordon stands for, in the scheduler's eyes.
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";
/// The operating system that headstart's no-op runs on.
const OWN_OS: &str = "linux";

/// What a pod template says about nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulingConstraints {
    /// `spec.nodeName`: this node and no other.
    pub node_name: Option<String>,
    /// `spec.nodeSelector`: labels the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// `spec.affinity`: the required part of node affinity.
    pub affinity: Option<RequiredAffinity>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Toleration>,
    /// `spec.os.name`.
    pub os: Option<String>,
}

/// Why a node is left out. It borrows what it tells of, from the Deployment and the node: there may be thousands of nodes, and
/// what is written in a Deployment is not copied for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason<'a> {
    /// The template names another node.
    OtherNode(&'a str),
    /// A label of `nodeSelector` is missing or has another value.
    Label {
        /// The label's key.
        key: &'a str,
        /// The value the template wants.
        wanted: &'a str,
        /// The value the node has.
        found: Option<&'a str>,
    },
    /// Required node affinity does not match these labels.
    Affinity(&'a RequiredAffinity, &'a Labels),
    /// The Deployment's own annotation narrows the nodes: the condition that is not met.
    NotSelected(&'a Requirement),
    /// Runs another operating system than Linux.
    OperatingSystem(&'a str),
    /// The template is for another operating system than Linux.
    TemplateOperatingSystem(&'a str),
    /// The node itself is no target now.
    Unusable(UnusableReason),
    /// Cordoned, and the template does not tolerate it.
    Cordoned,
    /// A taint that the template does not tolerate.
    UntoleratedTaint(&'a Taint),
    /// Takes no more pods.
    NoPodSlots(u32),
    /// Eligible, but more than the Deployment's annotation allows.
    BeyondMaxNodes(MaxNodes),
    /// An annotation that would narrow the nodes cannot be read, so none is a target.
    InvalidAnnotation(&'a InvalidAnnotation),
}

impl SkipReason<'_> {
    /// For machines: stable, in the style of condition reasons.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OtherNode(_) => "OtherNode",
            Self::Label { .. } => "NodeSelectorMismatch",
            Self::Affinity(..) => "NodeAffinityMismatch",
            Self::NotSelected(_) => "NotSelected",
            Self::OperatingSystem(_) | Self::TemplateOperatingSystem(_) => "OperatingSystem",
            Self::Unusable(UnusableReason::Virtual) => "VirtualKubelet",
            Self::Unusable(UnusableReason::Deleting) => "Deleting",
            Self::Unusable(UnusableReason::NotReady) => "NotReady",
            Self::Unusable(UnusableReason::MemoryPressure) => "MemoryPressure",
            Self::Unusable(UnusableReason::DiskPressure) => "DiskPressure",
            Self::Unusable(UnusableReason::PidPressure) => "PIDPressure",
            Self::Unusable(UnusableReason::NetworkUnavailable) => "NetworkUnavailable",
            Self::Cordoned => "Cordoned",
            Self::UntoleratedTaint(_) => "UntoleratedTaint",
            Self::NoPodSlots(_) => "NoPodSlots",
            Self::BeyondMaxNodes(_) => "MaxNodes",
            Self::InvalidAnnotation(_) => "InvalidAnnotation",
        }
    }
}

/// For people: one sentence, in which no text of the Deployment or the node is long.
impl fmt::Display for SkipReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNode(wanted) => {
                let wanted = short(wanted);
                write!(f, "the pod template asks for the node {wanted} by name")
            }
            Self::Label { key, wanted, found } => {
                let (key, wanted) = (short(key), short(wanted));
                write!(f, "nodeSelector wants {key}={wanted}, the node has ")?;
                match found {
                    Some(found) => write!(f, "{key}={}", short(found)),
                    None => f.write_str("no such label"),
                }
            }
            Self::Affinity(affinity, labels) => affinity.explain(labels, f),
            Self::NotSelected(condition) => {
                let condition = printed(condition, SHOWN_BYTES);
                write!(f, "the annotation {NODE_SELECTOR} wants {condition}")
            }
            Self::OperatingSystem(os) => {
                write!(
                    f,
                    "the node runs {}; headstart prefetches on {OWN_OS}",
                    short(os)
                )
            }
            Self::TemplateOperatingSystem(os) => {
                write!(
                    f,
                    "the pod template is for {}; headstart prefetches on {OWN_OS}",
                    short(os)
                )
            }
            Self::Unusable(reason) => f.write_str(match reason {
                UnusableReason::Virtual => {
                    "the node is a virtual kubelet and has no disk to prefetch to"
                }
                UnusableReason::Deleting => "the node is being deleted",
                UnusableReason::NotReady => "the node is not Ready",
                UnusableReason::MemoryPressure => "the node is short of memory",
                UnusableReason::DiskPressure => "the node is short of disk",
                UnusableReason::PidPressure => "the node is short of process IDs",
                UnusableReason::NetworkUnavailable => "the node's network is not set up",
            }),
            Self::Cordoned => f.write_str("the node is cordoned"),
            Self::UntoleratedTaint(taint) => {
                write!(f, "the pod template does not tolerate the taint {taint}")
            }
            Self::NoPodSlots(0) => f.write_str("the node takes no pods"),
            Self::NoPodSlots(slots) => write!(f, "the node takes {slots} pods and has them"),
            Self::BeyondMaxNodes(limit) => {
                write!(
                    f,
                    "the annotation {MAX_NODES} allows {limit}, and other nodes come first"
                )
            }
            Self::InvalidAnnotation(error) => error.fmt(f),
        }
    }
}

fn short(text: &str) -> Cow<'_, str> {
    shown(text, SHOWN_BYTES)
}

impl SchedulingConstraints {
    /// Reads a pod template.
    pub fn from_pod_spec(spec: &PodSpec) -> Self {
        let named = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
        Self {
            node_name: spec.node_name.as_ref().and_then(named),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            affinity: RequiredAffinity::read(spec.affinity.as_ref()),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            os: spec.os.as_ref().and_then(|os| named(&os.name)),
        }
    }

    /// What it takes in memory, beyond itself and at most.
    pub(super) fn bytes(&self) -> usize {
        // A map's pieces have room for eleven entries each, and are at least half full but for the first.
        const FIRST: usize = 600;
        const ENTRY: usize = 110;
        let labels = self.node_selector.iter();
        let labels: usize = labels.map(|(k, v)| ENTRY + k.len() + v.len()).sum();
        let tolerations = self.tolerations.iter().map(|toleration| {
            let Toleration {
                effect,
                key,
                operator,
                toleration_seconds: _,
                value,
            } = toleration;
            let texts = [effect, key, operator, value].into_iter().flatten();
            size_of::<Toleration>() + texts.map(String::len).sum::<usize>()
        });
        let names = [&self.node_name, &self.os].into_iter().flatten();
        let affinity = self.affinity.as_ref();
        names.map(String::len).sum::<usize>()
            + if labels > 0 { FIRST + labels } else { 0 }
            + affinity.map_or(0, RequiredAffinity::bytes)
            + tolerations.sum::<usize>()
    }

    /// Why pods of the template would not be scheduled on a node now; `None` if they would.
    pub fn filter<'a>(&'a self, node: &'a NodeInfo) -> Option<SkipReason<'a>> {
        self.other_node(node)
            .or_else(|| self.other_system(node))
            .or_else(|| self.node_affinity_mismatch(node))
            .or_else(|| node.unusable.map(SkipReason::Unusable))
            .or_else(|| self.taint_mismatch(node))
    }

    fn other_node<'a>(&'a self, node: &'a NodeInfo) -> Option<SkipReason<'a>> {
        let wanted = self.node_name.as_deref()?;
        (wanted != node.name).then_some(SkipReason::OtherNode(wanted))
    }

    fn other_system<'a>(&'a self, node: &'a NodeInfo) -> Option<SkipReason<'a>> {
        if let Some(os) = &node.non_linux_os {
            return Some(SkipReason::OperatingSystem(os));
        }
        let os = self.os.as_deref().filter(|os| *os != OWN_OS)?;
        Some(SkipReason::TemplateOperatingSystem(os))
    }

    /// Why a node is not what `nodeSelector` and required node affinity ask for, as the scheduler's NodeAffinity plugin
    /// sees it.
    pub fn node_affinity_mismatch<'a>(&'a self, node: &'a NodeInfo) -> Option<SkipReason<'a>> {
        for (key, wanted) in &self.node_selector {
            let found = node.labels.get(key);
            if found != Some(wanted.as_str()) {
                return Some(SkipReason::Label { key, wanted, found });
            }
        }
        let affinity = self.affinity.as_ref()?;
        (!affinity.matches(&node.name, &node.labels))
            .then_some(SkipReason::Affinity(affinity, &node.labels))
    }

    /// Why a node keeps the template's pods away.
    fn taint_mismatch<'a>(&'a self, node: &'a NodeInfo) -> Option<SkipReason<'a>> {
        // With a node's name there is no scheduling: only what the kubelet itself refuses counts.
        let scheduled = self.node_name.is_none();
        let counts = |taint: &&Taint| scheduled || taint.effect() == Effect::NoExecute;
        if scheduled && node.cordoned {
            let cordon = Taint::new(UNSCHEDULABLE_TAINT, Effect::NoSchedule);
            if first_untolerated(&[cordon], &self.tolerations).is_some() {
                return Some(SkipReason::Cordoned);
            }
        }
        // A cordoned node carries the taint as well; the sentence above says it better.
        node.taints.iter().filter(counts).find_map(|taint| {
            let tolerated_by = |toleration: &&Toleration| taint.is_tolerated_by(toleration);
            let mut tolerating = self.tolerations.iter().filter(tolerated_by).peekable();
            if tolerating.peek().is_none() {
                return Some(SkipReason::UntoleratedTaint(taint));
            }
            let down =
                taint.is_of_a_node_that_is_down() && tolerating.all(is_default_eviction_toleration);
            down.then_some(SkipReason::Unusable(UnusableReason::NotReady))
        })
    }
}
