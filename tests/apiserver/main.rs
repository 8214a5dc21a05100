//! headstart's processes and a real API server with nodes that only pretend (kwok). Needs Go, no root.
//!
//! `admission` asks whether a platform team can trust the webhook: certificates, callers, policies, holds. `scale` asks what
//! the worker does with hundreds of nodes and under everything that happens to a controller. `HEADSTART_LONG=1` runs each
//! test at the size that a release is judged by. `fake_api` compares the simulator's API server with a real one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod admission;
mod fake_api;
mod scale;

use testbed::harness::lock::{Alone, ClusterLock};

/// The cluster of `scale`. One test at a time: it counts what the cluster does.
static MANY_NODES: ClusterLock<scale::TestCluster> = ClusterLock::new(1);
/// The installation of `admission`, which keeps its cluster itself. One test at a time: each installs headstart anew.
static FEW_NODES: ClusterLock<()> = ClusterLock::new(1);

/// The turn of a test that measures, and has the machine to itself.
pub(crate) struct Machine {
    _many: Alone<scale::TestCluster>,
    _few: Alone<()>,
}

/// Waits until no other test runs or waits. Tests of `admission` and of `scale` run beside each other otherwise: those wait for
/// certificates and leases most of the time, these for the API server.
pub(crate) async fn machine() -> Machine {
    // In one order, so that none waits for another that waits for it.
    let many = MANY_NODES.without_cluster().await;
    Machine {
        _many: many.unrecorded(),
        _few: FEW_NODES.without_cluster().await,
    }
}
