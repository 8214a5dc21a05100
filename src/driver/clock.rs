//! The clocks from which the controller gets the time.

use headstart_core::time::{Instant as CoreInstant, Now};
use tokio::time::Instant;

use crate::clock::Clock;

/// Converts moments of the runtime into those of the core, which count from the start of the process.
#[derive(Clone, Debug)]
pub(crate) struct DriverClock {
    started: Instant,
    wall: Clock,
}

impl DriverClock {
    /// Returns a clock that starts now, and takes the time of day from `wall`.
    pub(crate) fn start(wall: Clock) -> Self {
        Self {
            started: Instant::now(),
            wall,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            monotonic: self.to_core(Instant::now()),
            wall: self.wall.timestamp(),
        }
    }

    pub(super) fn to_core(&self, at: Instant) -> CoreInstant {
        CoreInstant::after_start(at.duration_since(self.started))
    }

    pub(super) fn to_tokio(&self, at: CoreInstant) -> Instant {
        self.started + at.since_start()
    }
}
