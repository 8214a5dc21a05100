//! The reasons why nodes are left out of a plan.

use std::borrow::Cow;
use std::fmt;

use super::affinity::RequiredAffinity;
use super::image_sizes::NoRoom;
use super::labels::Labels;
use super::node::{OWN_OS, UnusableReason};
use super::pod_slots::PodSlots;
use super::resources::Insufficient;
use super::selector::Requirement;
use super::tolerations::Taint;
use crate::api::annotations::{Amount, InvalidAnnotation, MAX_NODES, NODE_SELECTOR};
use crate::limits::{SHOWN_BYTES, printed, shown};

/// The reason why a node is left out. It borrows from the Deployment and the node: there may be thousands of nodes, and the
/// texts of a Deployment are not copied for each.
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
    /// Cordoned.
    Cordoned,
    /// A taint that the template does not tolerate.
    UntoleratedTaint(&'a Taint),
    /// Has less of a resource than one pod requests, even when it is empty.
    InsufficientResources(Insufficient<'a>),
    /// The images that it lacks are too large.
    NoRoom(NoRoom<'a>),
    /// Takes no more pods.
    NoPodSlots(PodSlots),
    /// Eligible, but more than the Deployment's annotation allows.
    BeyondMaxNodes(Amount),
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
            Self::Unusable(UnusableReason::ScaleDown) => "ScaleDown",
            Self::Unusable(UnusableReason::NotReady) => "NotReady",
            Self::Unusable(UnusableReason::MemoryPressure) => "MemoryPressure",
            Self::Unusable(UnusableReason::DiskPressure) => "DiskPressure",
            Self::Unusable(UnusableReason::PidPressure) => "PIDPressure",
            Self::Unusable(UnusableReason::NetworkUnavailable) => "NetworkUnavailable",
            Self::Cordoned => "Cordoned",
            Self::UntoleratedTaint(_) => "UntoleratedTaint",
            Self::InsufficientResources(_) => "InsufficientResources",
            Self::NoRoom(NoRoom::ImageTooLarge(_)) => "ImageTooLarge",
            Self::NoRoom(NoRoom::InsufficientDisk { .. }) => "InsufficientDisk",
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
                UnusableReason::Deleting => "the node is about to be removed",
                UnusableReason::ScaleDown => "an autoscaler is removing the node",
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
            Self::InsufficientResources(insufficient) => insufficient.fmt(f),
            Self::NoRoom(why) => why.fmt(f),
            Self::NoPodSlots(slots) => slots.fmt(f),
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
