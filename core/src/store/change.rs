//! The names of objects that changed.

use std::sync::Arc;

use crate::workload::DeploymentKey;

/// The name of a node.
pub type NodeName = Arc<str>;

/// A Deployment on a node: the subject of one prefetch pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeploymentNode {
    /// The Deployment.
    pub key: DeploymentKey,
    /// The node.
    pub node: NodeName,
}

/// A change that can matter to a decision. It names the object; the newest state is in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A Deployment's images, mode, placement, marks or existence changed.
    Deployment(DeploymentKey),
    /// Only the progress of a Deployment's rollout changed.
    Rollout(DeploymentKey),
    /// A node came, went, or changed in a way that placement reads.
    Node(NodeName),
    /// Only the images that a node reports changed.
    NodeImages(NodeName),
    /// A prefetch pod changed.
    Pod(DeploymentNode),
    /// The room for pods in a namespace changed: its quotas, or a rollout that a quota stops.
    Quota(String),
}
