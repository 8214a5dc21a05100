//! Shows the liveness probe that the driver's loop turns.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The loop turns at least once a second. A loop that has not turned for so long hangs, and only a restart helps.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// When the loop turned last; `None` while this replica does not lead.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat(Mutex<Option<Instant>>);

impl Heartbeat {
    /// Records a turn.
    pub(super) fn beat(&self, now: Instant) {
        self.set(Some(now));
    }

    /// Records that the loop ended, as it does with each term.
    pub(super) fn stop(&self) {
        self.set(None);
    }

    /// Returns whether the loop runs and has not turned for too long.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| now.duration_since(last) >= STALLED_AFTER)
    }

    fn set(&self, last: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_turn_for_half_a_minute_is_stalled() {
        let heartbeat = Heartbeat::default();
        assert!(!heartbeat.is_stalled(Instant::now()), "does not lead");
        heartbeat.beat(Instant::now());
        tokio::time::advance(STALLED_AFTER - Duration::from_millis(1)).await;
        assert!(!heartbeat.is_stalled(Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(heartbeat.is_stalled(Instant::now()));
        heartbeat.stop();
        assert!(!heartbeat.is_stalled(Instant::now()));
    }
}
