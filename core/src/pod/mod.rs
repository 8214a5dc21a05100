//! The pods that pull images: how one is made, told from others, and read.

mod containers;
mod failure;
mod manifest;
mod message;
mod metadata;
mod name;
mod run_as_user;
mod settings;
mod shape;
pub mod status;

pub use manifest::{account_of, node_of, prefetch_pod};
pub use metadata::{InvalidPodMetadata, PodAnnotations, PodLabels};
pub use name::{deployment_label, pod_name};
pub use run_as_user::{InvalidUser, RunAsUser};
pub use settings::{COPY_SELF_COMMAND, NOOP_COMMAND, NodeBinding, PodSettings, RunAs};
pub use shape::is_prefetch_pod;
