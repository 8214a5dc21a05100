//! What the worker does at scale and under everything that happens to a controller: a real control plane, and nodes
//! that only pretend, by the thousand.
//!
//! The tests share one cluster and take turns on it, because they count what it does. `HEADSTART_LONG=1` runs each at
//! its full size.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod bed;
mod failover;
mod fan_out;
mod flags;
mod hostile;
mod latest_wins;
mod machines;
mod memory;
mod outages;
mod proxy;
mod quota;
mod refresh;
mod rejected;
mod soak;
mod wrong_tag;
