//! Rollouts that wait for their images: paused when they are admitted, resumed by the leader.
//!
//! What is decided is in [`headstart_core::hold`]. Here is what a decision needs to know of the cluster, and the one write of a
//! user's object that headstart ever makes.

mod gate;
mod resume;

pub use gate::Gate;
pub use resume::{Resumed, resume};
