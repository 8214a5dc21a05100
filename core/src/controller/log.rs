//! Log lines, as data.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::image::ImageSetId;
use crate::store::{DeploymentNode, NodeName};
use crate::workload::DeploymentKey;

/// A line for the log.
#[derive(Clone, Debug, PartialEq)]
pub enum LogLine {
    /// A new term begins.
    Leading {
        /// The number of Deployments to look at.
        deployments: usize,
    },
    /// A Deployment has prefetch disabled, or is gone.
    Disabled(DeploymentKey),
    /// A Deployment was rolled out before this term.
    RolledOutBefore(DeploymentKey),
    /// A prefetch begins.
    Prefetching {
        /// The Deployment.
        key: DeploymentKey,
        /// Its images.
        images: ImageSetId,
        /// The number of images.
        count: usize,
        /// The number of planned nodes.
        nodes: usize,
        /// The number of skipped nodes.
        skipped: usize,
        /// The number of nodes that report the images.
        already_present: usize,
    },
    /// The same images are wanted on other terms.
    TermsChanged(DeploymentKey),
    /// A ServiceAccount names other pull secrets than before.
    PullSecretsChanged {
        /// The Deployment.
        key: DeploymentKey,
        /// The account.
        account: String,
    },
    /// A lookup failed; the prefetch goes on without its answer.
    LookupFailed {
        /// The Deployment.
        key: DeploymentKey,
        /// The subject of the lookup.
        what: &'static str,
        /// The message.
        error: String,
    },
    /// The pods on a node could not be counted; prefetches go on without the number.
    CountFailed {
        /// The node.
        node: NodeName,
        /// The message.
        error: String,
        /// Counts have failed so often that none is asked for in the next minute.
        paused: bool,
    },
    /// The nodes where the rollout's own pods pull come last.
    Deferred {
        /// The Deployment.
        key: DeploymentKey,
        /// The number of nodes.
        nodes: usize,
    },
    /// A node that joined gets the images of Deployments that were rolled out before.
    NodeJoined {
        /// The node.
        node: NodeName,
        /// The number of Deployments.
        deployments: usize,
    },
    /// A create failed in a way that may pass.
    CreateFailed {
        /// The Deployment and the node.
        at: DeploymentNode,
        /// The message.
        error: String,
        /// True if it is tried again soon; otherwise the node waits for its next turn.
        retried: bool,
    },
    /// The API server refuses prefetch pods.
    CreateRefused {
        /// The Deployment and the node.
        at: DeploymentNode,
        /// The message.
        error: String,
        /// The time for which the Deployment waits.
        pause: Duration,
        /// Its namespace is being deleted, which is no reason to warn.
        namespace_is_going: bool,
    },
    /// A node's pod was lost.
    PodLost {
        /// The Deployment and the node.
        at: DeploymentNode,
        /// The number of times that pods were lost there.
        attempts: u8,
        /// The pause before the next attempt; `None` if there is none.
        pause: Option<Duration>,
    },
    /// An image failed on a node.
    ImageFailed {
        /// The Deployment and the node.
        at: DeploymentNode,
        /// The image, as the template names it.
        image: String,
        /// The class of the failure.
        reason: &'static str,
    },
    /// A node refused a prefetch pod.
    NodeRefused {
        /// The Deployment and the node.
        at: DeploymentNode,
        /// The message.
        message: String,
    },
    /// A kubelet does not acknowledge a prefetch pod.
    NodeSilent(DeploymentNode),
    /// Every node of a prefetch is decided.
    Finished {
        /// The Deployment.
        key: DeploymentKey,
        /// Nodes that have all images.
        present: usize,
        /// Nodes that do not.
        failed: usize,
    },
    /// Pods are deleted.
    DeletingPods {
        /// The Deployment and the node.
        at: DeploymentNode,
        /// The number of pods.
        pods: usize,
    },
    /// A pod could not be deleted.
    DeleteFailed {
        /// The Deployment and the node.
        at: DeploymentNode,
        /// The pod.
        pod: String,
        /// The message.
        error: String,
    },
    /// A rollout is held.
    Held {
        /// The Deployment.
        key: DeploymentKey,
        /// The latest time at which the hold ends.
        until: Option<Timestamp>,
    },
    /// A rollout goes on.
    Resumed {
        /// The Deployment.
        key: DeploymentKey,
        /// The reason.
        reason: &'static str,
        /// The duration of the hold.
        after: Duration,
    },
    /// A rollout stays paused, because another client pauses it.
    LeftPaused(DeploymentKey),
    /// Another client removed the mark of a hold, and left the pause.
    HoldMarkRemoved(DeploymentKey),
    /// A rollout could not be resumed.
    NotResumed {
        /// The Deployment.
        key: DeploymentKey,
        /// The message.
        error: String,
    },
}
