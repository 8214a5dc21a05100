//! The error of a write.

use std::time::Duration;

/// The error of a write. After some of them the write may have been done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The API server refuses it, and would refuse it again: quota, a policy, a namespace that is being deleted.
    Refused {
        /// The status code.
        status: u16,
        /// The message.
        message: String,
    },
    /// The API server could not do it now: 408, 409, 429, 5xx, no connection.
    Unavailable {
        /// The message.
        message: String,
        /// The pause that the API server asks for before the next attempt.
        retry_after: Option<Duration>,
    },
    /// There was no answer: it may have been done, or not.
    Unknown(String),
    /// This replica does not lead any more; it was not sent.
    NotLeader,
    /// The lease ended before the answer: it may have been done, or not.
    LeaseEnded,
}

impl WriteError {
    /// Returns the error of an answer with this status code. Asking again meets the same answer for all of 4xx but a timeout, a
    /// conflict and too many requests.
    pub fn of_status(status: u16, message: String, retry_after: Option<Duration>) -> Self {
        if (400..500).contains(&status) && !matches!(status, 408 | 409 | 429) {
            Self::Refused { status, message }
        } else {
            Self::Unavailable {
                message,
                retry_after,
            }
        }
    }

    /// Returns the class of the error, for reports that are made once for each.
    pub(super) fn class(&self) -> String {
        match self {
            Self::Refused { status, .. } => format!("Refused{status}"),
            Self::Unavailable { .. } => "Unavailable".to_owned(),
            Self::Unknown(_) => "Unknown".to_owned(),
            Self::NotLeader => "NotLeader".to_owned(),
            Self::LeaseEnded => "LeaseEnded".to_owned(),
        }
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        match self {
            Self::Refused { message, .. }
            | Self::Unavailable { message, .. }
            | Self::Unknown(message) => message,
            Self::NotLeader => "this replica does not lead any more",
            Self::LeaseEnded => "the lease ended before the answer",
        }
    }

    /// Returns whether the lease is the reason. The term ends too then, and nothing is reported: the next leader does the same
    /// again.
    pub fn is_end_of_lease(&self) -> bool {
        matches!(self, Self::NotLeader | Self::LeaseEnded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_and_policy_are_permanent_and_load_is_not() {
        let is_permanent = |code| {
            let error = WriteError::of_status(code, String::new(), None);
            matches!(error, WriteError::Refused { .. })
        };
        for code in [400, 403, 404, 422] {
            assert!(is_permanent(code), "{code}");
        }
        for code in [408, 409, 429, 500, 503, 504] {
            assert!(!is_permanent(code), "{code}");
        }
    }
}
