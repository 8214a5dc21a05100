//! headstart's processes and a real API server with nodes that only pretend (kwok). Needs Go, no root.
//!
//! `admission` asks whether a platform team can trust the webhook: certificates, callers, policies, holds. `scale` asks what
//! the worker does with hundreds of nodes and under everything that happens to a controller. `HEADSTART_LONG=1` runs each
//! test at the size that a release is judged by.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod admission;
mod scale;

use testbed::harness::lock::ClusterLock;

/// A test has the machine to itself: it counts, or measures. The cluster is that of `scale`.
static TURNS: ClusterLock<scale::TestCluster> = ClusterLock::new(1);
