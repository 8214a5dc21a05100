//! The pods that pull images: how one is made, told from others, and read.

mod containers;
mod manifest;
mod message;
mod name;
mod shape;
pub mod status;

pub use manifest::{
    COPY_SELF_COMMAND, NOOP_COMMAND, NodeBinding, PodSettings, RunAs, account_of, node_of,
    prefetch_pod,
};
pub use name::{deployment_label, pod_name};
pub use shape::is_prefetch_pod;
