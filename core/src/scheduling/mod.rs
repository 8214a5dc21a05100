//! The nodes on which the pods of a Deployment could be scheduled, by Kubernetes' own rules.

pub mod affinity;
pub mod constraints;
pub mod filter_options;
pub mod image_sizes;
pub mod labels;
pub mod node;
pub mod node_images;
pub mod pod_slots;
pub(crate) mod quantity;
pub mod resources;
pub mod selector;
pub mod skip_reason;
pub mod startup_taints;
pub mod tolerations;
