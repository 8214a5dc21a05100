//! The decisions: the images of a Deployment, the nodes for its pods, the pods that pull for it, and the meaning of
//! their status.
//!
//! Everything here is a pure function over Kubernetes' own types. Nothing waits, nothing talks to a
//! cluster: the crate depends on no client and no runtime, and `clippy.toml` bans clocks, threads, the
//! environment, and maps whose order differs from run to run.

pub mod api;
pub mod controller;
pub mod event;
pub mod evidence;
pub mod hash;
pub mod hold;
pub mod image;
mod image_presence;
pub mod limit_range;
pub mod limits;
mod list;
pub mod plan;
pub mod pod;
pub mod resource_quota;
pub mod resource_version;
pub mod rollout;
pub mod scheduling;
pub mod self_test;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod workload;

pub use image_presence::image_presence;
