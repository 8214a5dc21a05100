//! Time as an argument. The core reads no clock: each call gets the time at which it happens.

use std::ops::Add;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// A moment of the monotonic clock, as the time since the process began. This clock cannot be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// Returns the moment that is so long after the process began.
    pub const fn after_start(duration: Duration) -> Self {
        Self(duration)
    }

    /// Returns how long after the process began this moment is.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Returns the time since an earlier moment; zero if that is not earlier.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The time at which an event is applied, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For pauses and timeouts.
    pub monotonic: Instant,
    /// For what objects say: creation times, marks of holds. It may jump.
    pub wall: Timestamp,
}

impl Now {
    /// Returns when a moment of the wall clock comes, if that clock is not set meanwhile; now if it is over.
    pub fn at_wall(self, wall: Timestamp) -> Instant {
        let left = wall.duration_since(self.wall);
        self.monotonic + Duration::try_from(left).unwrap_or_default()
    }

    /// Returns the time since an earlier moment as a signed duration, for comparison with limits of that type.
    pub fn signed_since(self, earlier: Instant) -> SignedDuration {
        let since = self.monotonic.duration_since(earlier);
        SignedDuration::try_from(since).unwrap_or(SignedDuration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_of_the_past_are_due_now() {
        let now = Now {
            monotonic: Instant::after_start(Duration::from_secs(5)),
            wall: Timestamp::from_second(100).unwrap(),
        };
        assert_eq!(
            now.at_wall(Timestamp::from_second(90).unwrap()),
            now.monotonic
        );
        let later = now.at_wall(Timestamp::from_second(110).unwrap());
        assert_eq!(later.duration_since(now.monotonic), Duration::from_secs(10));
    }
}
