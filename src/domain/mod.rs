//! The decisions: what a Deployment needs, which nodes it could land on, the pods that pull for it, and
//! what their status means.
//!
//! Everything here is a pure function over Kubernetes' own types. Nothing waits, nothing talks to a
//! cluster; a test fails when this room names the client or the runtime.

pub mod affinity;
pub mod annotation;
pub mod contract;
pub mod image;
pub mod labels;
pub mod node;
pub mod outcome;
pub mod placement;
pub mod plan;
pub mod pod;
mod quantity;
pub mod selector;
pub mod toleration;
pub mod workload;
