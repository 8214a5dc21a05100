//! What an error of the client says about a write.

use std::time::Duration;

use headstart_core::controller::command::WriteError;
use headstart_core::limits::{NOTE_BYTES, printed, shown};
use kube::core::Status;

/// Returns what an error of the client says about a write.
pub(super) fn write_error(error: kube::Error) -> WriteError {
    match error {
        kube::Error::Api(status) => {
            let message = shown(&status.message, NOTE_BYTES).into_owned();
            if is_permanent(status.code) {
                let status = status.code;
                WriteError::Refused { status, message }
            } else {
                let retry_after = retry_after(&status);
                WriteError::Unavailable {
                    message,
                    retry_after,
                }
            }
        }
        error => WriteError::Unknown(printed(error, NOTE_BYTES)),
    }
}

/// Returns whether asking again meets the same answer: all of 4xx but a timeout, a conflict and too many requests.
fn is_permanent(code: u16) -> bool {
    (400..500).contains(&code) && !matches!(code, 408 | 409 | 429)
}

fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_and_policy_are_permanent_and_load_is_not() {
        for code in [400, 403, 404, 422] {
            assert!(is_permanent(code), "{code}");
        }
        for code in [408, 409, 429, 500, 503, 504] {
            assert!(!is_permanent(code), "{code}");
        }
    }
}
