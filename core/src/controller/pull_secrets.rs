//! The pull secrets of a workload's ServiceAccount. Prefetch pods run under another account, so they have to name these
//! secrets, and are created only once they are known.

use std::time::Duration;

use crate::time::Instant;

/// A ServiceAccount is read again after a registry refused its credentials, but not more often than this.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The state of the ServiceAccount of a workload.
#[derive(Debug, Default)]
pub(super) struct PullSecrets {
    /// The names of the secrets, empty where they do not apply; `None` until they are read.
    pub(super) names: Option<Vec<String>>,
    /// The time at which they were last asked for.
    asked_at: Option<Instant>,
    /// A read is to be requested.
    wanted: bool,
    /// A read is in flight.
    reading: bool,
}

impl PullSecrets {
    /// Requests a read, unless one is in flight.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Requests a read because a registry refused the credentials: the account may name its secrets only now.
    pub(super) fn want_again(&mut self, now: Instant) {
        let due = |at: Instant| now.duration_since(at) >= READ_AGAIN;
        self.wanted |= self.asked_at.is_some_and(due);
    }

    /// Returns whether a read has to be sent now, and records that it is.
    pub(super) fn take_wanted(&mut self, now: Instant) -> bool {
        let send = std::mem::take(&mut self.wanted) && !self.reading;
        if send {
            self.reading = true;
            self.asked_at = Some(now);
        }
        send
    }

    /// Records that no account has to be read.
    pub(super) fn set_not_needed(&mut self) {
        *self = Self {
            names: Some(Vec::new()),
            ..Self::default()
        };
    }

    /// Records that the read ended.
    pub(super) fn on_read(&mut self) {
        self.reading = false;
    }

    /// Returns whether a read is requested or in flight.
    pub(super) fn is_coming(&self) -> bool {
        self.wanted || self.reading
    }
}
