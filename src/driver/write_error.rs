//! Classifies the errors of writes.

use std::time::Duration;

use headstart_core::controller::command::WriteError;
use headstart_core::limits::{NOTE_BYTES, printed, shown};
use kube::core::Status;

/// Converts an error of the client into the result of a write.
pub(super) fn write_error(error: kube::Error) -> WriteError {
    match error {
        kube::Error::Api(status) => {
            let message = shown(&status.message, NOTE_BYTES).into_owned();
            WriteError::of_status(status.code, message, retry_after(&status))
        }
        error => WriteError::Unknown(printed(error, NOTE_BYTES)),
    }
}

fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}
