//! Where the pods of a Deployment could be scheduled: Kubernetes' own rules, over nodes.

pub mod affinity;
pub mod constraints;
pub mod labels;
pub mod node;
mod quantity;
pub mod selector;
pub mod skip_reason;
pub mod tolerations;
