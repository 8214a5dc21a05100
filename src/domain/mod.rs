//! The decisions: what a Deployment needs, which nodes it could land on, the pods that pull for it, and
//! what their status means.
//!
//! Everything here is a pure function over Kubernetes' own types. Nothing waits, nothing talks to a
//! cluster; a test fails when this room names the client or the runtime.

pub mod contract;
pub mod image;
pub mod node;
pub mod outcome;
pub mod plan;
pub mod pod;
pub mod workload;
