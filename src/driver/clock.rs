//! The clocks from which the controller gets the time.

use headstart_core::time::{Instant as CoreInstant, Now};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// Converts moments of the runtime into those of the core, which count from the start of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DriverClock(Instant);

impl DriverClock {
    /// Returns a clock that starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Now {
        Now {
            monotonic: self.to_core(Instant::now()),
            wall: Timestamp::now(),
        }
    }

    pub(super) fn to_core(self, at: Instant) -> CoreInstant {
        CoreInstant::after_start(at.duration_since(self.0))
    }

    pub(super) fn to_tokio(self, at: CoreInstant) -> Instant {
        self.0 + at.since_start()
    }
}
