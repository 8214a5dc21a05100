//! Where the pods of a template could be scheduled now: the scheduler's filters, not its scores.
//!
//! `nodeName`, `nodeSelector`, required node affinity, taints and cordon are judged as the scheduler does. On top, a
//! node must be one that can pull: Ready, a real machine, of our operating system, not short of anything.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::affinity::RequiredAffinity;
use super::annotation::{MAX_NODES, NODE_SELECTOR};
use super::node::{Candidate, Unfit};
use super::toleration::{Effect, Taint, first_untolerated, is_for_a_while};

#[cfg(test)]
mod tests;

/// The taint that a cordon stands for, in the scheduler's eyes.
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";
/// The operating system that headstart's no-op runs on.
const OWN_OS: &str = "linux";

/// What a pod template says about nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
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

/// Why a node is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// The template names another node.
    OtherNode(String),
    /// A label of `nodeSelector` is missing or has another value.
    Label {
        /// The label's key.
        key: String,
        /// The value the template wants.
        wanted: String,
        /// The value the node has.
        found: Option<String>,
    },
    /// Required node affinity does not match; the sentence that says why.
    Affinity(String),
    /// The Deployment's own annotation narrows the nodes: the condition that is not met.
    NotSelected(String),
    /// Runs another operating system than Linux.
    OperatingSystem(String),
    /// The template is for another operating system than Linux.
    TemplateOperatingSystem(String),
    /// The node itself is no target now.
    Unfit(Unfit),
    /// Cordoned, and the template does not tolerate it.
    Cordoned,
    /// A taint that the template does not tolerate: `key=value:effect`.
    UntoleratedTaint(String),
    /// Takes no more pods.
    NoPodSlots(u32),
    /// Eligible, but more than the Deployment's annotation allows.
    BeyondMaxNodes(String),
    /// An annotation that would narrow the nodes cannot be read, so none is a target; what is wrong with it.
    InvalidAnnotation(Arc<str>),
}

impl Ineligible {
    /// For machines: stable, in the style of condition reasons.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OtherNode(_) => "OtherNode",
            Self::Label { .. } => "NodeSelectorMismatch",
            Self::Affinity(_) => "NodeAffinityMismatch",
            Self::NotSelected(_) => "NotSelected",
            Self::OperatingSystem(_) | Self::TemplateOperatingSystem(_) => "OperatingSystem",
            Self::Unfit(Unfit::Virtual) => "VirtualKubelet",
            Self::Unfit(Unfit::Deleting) => "Deleting",
            Self::Unfit(Unfit::NotReady) => "NotReady",
            Self::Unfit(Unfit::MemoryPressure) => "MemoryPressure",
            Self::Unfit(Unfit::DiskPressure) => "DiskPressure",
            Self::Unfit(Unfit::PidPressure) => "PIDPressure",
            Self::Unfit(Unfit::NetworkUnavailable) => "NetworkUnavailable",
            Self::Cordoned => "Cordoned",
            Self::UntoleratedTaint(_) => "UntoleratedTaint",
            Self::NoPodSlots(_) => "NoPodSlots",
            Self::BeyondMaxNodes(_) => "MaxNodes",
            Self::InvalidAnnotation(_) => "InvalidAnnotation",
        }
    }
}

/// For people: one sentence.
impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNode(wanted) => {
                write!(f, "the pod template asks for the node {wanted} by name")
            }
            Self::Label { key, wanted, found } => {
                write!(f, "nodeSelector wants {key}={wanted}, the node has ")?;
                match found {
                    Some(found) => write!(f, "{key}={found}"),
                    None => f.write_str("no such label"),
                }
            }
            Self::Affinity(sentence) => f.write_str(sentence),
            Self::NotSelected(condition) => {
                write!(f, "the annotation {NODE_SELECTOR} wants {condition}")
            }
            Self::OperatingSystem(os) => {
                write!(f, "the node runs {os}; headstart prefetches on {OWN_OS}")
            }
            Self::TemplateOperatingSystem(os) => {
                write!(
                    f,
                    "the pod template is for {os}; headstart prefetches on {OWN_OS}"
                )
            }
            Self::Unfit(unfit) => f.write_str(match unfit {
                Unfit::Virtual => "the node is a virtual kubelet and has no disk to prefetch to",
                Unfit::Deleting => "the node is being deleted",
                Unfit::NotReady => "the node is not Ready",
                Unfit::MemoryPressure => "the node is short of memory",
                Unfit::DiskPressure => "the node is short of disk",
                Unfit::PidPressure => "the node is short of process IDs",
                Unfit::NetworkUnavailable => "the node's network is not set up",
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
            Self::InvalidAnnotation(error) => f.write_str(error),
        }
    }
}

impl Placement {
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

    /// Why pods of the template would not be scheduled on a node now; `None` if they would.
    pub fn excludes(&self, node: &Candidate) -> Option<Ineligible> {
        self.other_node(node)
            .or_else(|| self.other_system(node))
            .or_else(|| self.not_wanted(node))
            .or_else(|| node.unfit.map(Ineligible::Unfit))
            .or_else(|| self.repelled(node))
    }

    fn other_node(&self, node: &Candidate) -> Option<Ineligible> {
        let wanted = self.node_name.as_ref()?;
        (*wanted != node.name).then(|| Ineligible::OtherNode(wanted.clone()))
    }

    fn other_system(&self, node: &Candidate) -> Option<Ineligible> {
        if let Some(os) = &node.foreign_os {
            return Some(Ineligible::OperatingSystem(os.to_string()));
        }
        let os = self.os.as_ref().filter(|os| *os != OWN_OS)?;
        Some(Ineligible::TemplateOperatingSystem(os.clone()))
    }

    /// Why a node is not what `nodeSelector` and required node affinity ask for, as the scheduler's NodeAffinity plugin
    /// sees it.
    pub fn not_wanted(&self, node: &Candidate) -> Option<Ineligible> {
        for (key, wanted) in &self.node_selector {
            let found = node.labels.get(key);
            if found != Some(wanted.as_str()) {
                return Some(Ineligible::Label {
                    key: key.clone(),
                    wanted: wanted.clone(),
                    found: found.map(str::to_owned),
                });
            }
        }
        let affinity = self.affinity.as_ref()?;
        (!affinity.matches(&node.name, &node.labels))
            .then(|| Ineligible::Affinity(affinity.explain(&node.labels)))
    }

    /// Why a node keeps the template's pods away.
    fn repelled(&self, node: &Candidate) -> Option<Ineligible> {
        // With a node's name there is no scheduling: only what the kubelet itself refuses counts.
        let scheduled = self.node_name.is_none();
        let counts = |taint: &&Taint| scheduled || taint.effect() == Effect::NoExecute;
        if scheduled && node.cordoned {
            let cordon = Taint::of_key(UNSCHEDULABLE_TAINT, Effect::NoSchedule);
            if first_untolerated(&[cordon], &self.tolerations).is_some() {
                return Some(Ineligible::Cordoned);
            }
        }
        // A cordoned node carries the taint as well; the sentence above says it better.
        node.taints.iter().filter(counts).find_map(|taint| {
            let tolerated_by = |toleration: &&Toleration| taint.is_tolerated_by(toleration);
            let mut tolerating = self.tolerations.iter().filter(tolerated_by).peekable();
            if tolerating.peek().is_none() {
                return Some(Ineligible::UntoleratedTaint(taint.to_string()));
            }
            let down = taint.is_of_a_node_that_is_down() && tolerating.all(is_for_a_while);
            down.then_some(Ineligible::Unfit(Unfit::NotReady))
        })
    }
}
