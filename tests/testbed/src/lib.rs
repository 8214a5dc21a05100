//! Real Kubernetes clusters for headstart's tests and demo, from nothing but Rust, Go and gcc.
//!
//! - [`assets`]: the programs, built on first use
//! - [`run_dir`], [`process`]: a run's directory and processes, and their removal
//! - [`control_plane`]: etcd, API server, controller manager and scheduler; needs no root
//! - [`fake_nodes`]: nodes by the thousand that only pretend (kwok)
//! - [`nodes`]: kubelets with containerd, as root on Linux, and a [`registry`] for their [`image`]s
//! - [`headstart`]: builds headstart and installs it from its own manifests
//! - [`rollout`]: a Deployment to roll out, and the course of its updates
//! - [`writes`]: a stream of users' writes, with the duration of each
//! - [`demo`]: the rollouts of `cargo demo`
//! - [`persistent`]: clusters that outlive the command that started them
//! - [`harness`]: turns on a cluster, waiting and counting, for the suites

pub mod assets;
pub mod control_plane;
pub mod demo;
pub mod fake_nodes;
pub mod harness;
pub mod headstart;
pub mod image;
pub mod nodes;
pub mod persistent;
pub mod process;
pub mod progress;
pub mod registry;
pub mod rollout;
pub mod run_dir;
pub mod statistics;
pub mod writes;

pub use control_plane::{Component, ControlPlane};
pub use fake_nodes::FakeNodes;
pub use image::Image;
pub use nodes::Nodes;
pub use registry::Registry;
