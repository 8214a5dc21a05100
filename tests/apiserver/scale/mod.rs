//! What the worker does at scale and under everything that happens to a controller.
//!
//! The tests have one cluster and take turns on it, because they count what it does.
mod cluster;
mod failover;
mod fan_out;
mod flags;
mod hostile;
mod memory;
mod outages;
mod proxy;
mod soak;

pub(crate) use cluster::TestCluster;
