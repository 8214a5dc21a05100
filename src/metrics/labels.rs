//! The labels of the counters.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// The result of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Decision {
    /// Recorded; the watch brings the object.
    Noted,
    /// Noted, and its rollout waits for its images or, by this write, no longer does.
    Held,
    /// Not a change of images, or not ours.
    Ignored,
    /// A dry run, which has no effect.
    DryRun,
    /// Allowed without being read: no room or no time.
    Shed,
    /// headstart's label and annotations have values that can be acted on.
    Valid,
    /// They do not: the one thing that is ever denied.
    Denied,
    /// Not a review.
    Refused,
}

impl Decision {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 8] = [
        Self::Noted,
        Self::Held,
        Self::Ignored,
        Self::DryRun,
        Self::Shed,
        Self::Valid,
        Self::Denied,
        Self::Refused,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DecisionLabel {
    pub(super) decision: Decision,
}

/// The missing resource for which a review is allowed unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Lack {
    /// Memory for its body, beside the other bodies.
    Memory,
    /// Time to read all of its body before the caller's timeout.
    Time,
    /// A processor to parse it, while other large bodies are parsed.
    Processor,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LackLabel {
    pub(super) lack: Lack,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct NotHeldLabel {
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    pub(super) outcome: String,
}

/// The resource of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum WatchedResource {
    /// Namespaces.
    Namespaces,
    /// Deployments.
    Deployments,
    /// Nodes.
    Nodes,
    /// Prefetch pods.
    Pods,
    /// LimitRanges.
    LimitRanges,
    /// ResourceQuotas.
    ResourceQuotas,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WatchLabel {
    pub(super) resource: WatchedResource,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PodLabel {
    pub(super) outcome: &'static str,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HoldEndLabel {
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabel {
    pub(super) verb: &'static str,
    pub(super) code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PolicyLabel {
    pub(super) policy: &'static str,
}
