//! The wall clock, passed in: certificates, holds and pods are checked against it, and tests move it.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use time::OffsetDateTime;

/// A source of the current time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Self {
        Self::from_fn(OffsetDateTime::now_utc)
    }

    /// A clock that returns the time of `now`.
    pub fn from_fn(now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the current time.
    pub fn now(&self) -> OffsetDateTime {
        (self.0)()
    }

    /// The time, as Kubernetes' objects have it.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.now().unix_timestamp_nanos()).unwrap_or_default()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_tell_the_same_time() {
        let clock = Clock::from_fn(|| {
            OffsetDateTime::UNIX_EPOCH + time::Duration::nanoseconds(1_500_000_000_250_000_000)
        });
        assert_eq!(clock.timestamp().to_string(), "2017-07-14T02:40:00.25Z");
    }
}
