//! Repeats a request of the start until the API server answers it.
//!
//! A process that exited instead would be restarted after pauses of up to five minutes, and so would be away for that long
//! after the API server is back.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::rbac_check::AccessError;
use crate::tls::TlsError;

/// The pause after the first failure, which doubles with each more.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// The duration for which the API server may refuse. Just after its start it knows no roles and no namespaces.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// The cause for which a request of the start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The API server does not answer, or is overloaded.
    Away,
    /// The API server refuses the request.
    Refused,
    /// The cause is in this process.
    Own,
}

/// An error that names its cause.
pub(super) trait StartError: Display {
    fn failure(&self) -> Failure;
}

impl StartError for AccessError {
    fn failure(&self) -> Failure {
        match self {
            Self::Api(error) => of_request(error),
            Self::Timeout(_) => Failure::Away,
        }
    }
}

impl StartError for TlsError {
    fn failure(&self) -> Failure {
        match self {
            Self::Secret(_, error) => of_request(error),
            Self::Timeout(_) => Failure::Away,
            Self::Sign(_)
            | Self::BadCertificate
            | Self::BadFile(..)
            | Self::Unusable(_)
            | Self::ClientCa(..) => Failure::Own,
        }
    }
}

fn of_request(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if is_refusal(status.code) => Failure::Refused,
        _ => Failure::Away,
    }
}

/// Returns whether a status concerns this request, and not the state of the API server.
fn is_refusal(code: u16) -> bool {
    (400..500).contains(&code) && !matches!(code, 408 | 409 | 429)
}

/// The failures of one request so far.
#[derive(Debug)]
struct Failures {
    pause: Duration,
    /// The time since which the request has been refused without interruption.
    refused: Option<Instant>,
}

impl Failures {
    fn none() -> Self {
        Self {
            pause: FIRST_PAUSE,
            refused: None,
        }
    }

    /// Returns the pause before the next attempt, or `None` if a retry cannot help.
    fn on_failure(&mut self, failure: Failure, now: Instant) -> Option<Duration> {
        match failure {
            Failure::Own => return None,
            Failure::Away => self.refused = None,
            Failure::Refused => {
                let since = *self.refused.get_or_insert(now);
                if now.duration_since(since) >= REFUSED_FOR {
                    return None;
                }
            }
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

/// Repeats a request until it succeeds.
///
/// # Errors
/// When another attempt cannot help.
pub(super) async fn until_answered<T, E: StartError>(
    what: &str,
    mut request: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut failures = Failures::none();
    loop {
        let error = match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(pause) = failures.on_failure(error.failure(), Instant::now()) else {
            return Err(error);
        };
        warn!(%error, ?pause, "cannot start yet: {what}; trying again");
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16) -> TlsError {
        let status = kube::core::Status {
            code,
            ..kube::core::Status::default()
        };
        TlsError::Secret("a/b".to_owned(), kube::Error::Api(status.into()).into())
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_away_for_minutes_is_asked_every_four_seconds() {
        let started = Instant::now();
        let mut last = started;
        let answer = until_answered("test", async || {
            assert!(last.elapsed() <= LONGEST_PAUSE);
            last = Instant::now();
            match started.elapsed().as_secs() {
                0..100 => Err(TlsError::Timeout("a/b".to_owned())),
                100..240 => Err(api(429)),
                _ => Ok(started.elapsed()),
            }
        });
        let late = answer.await.unwrap() - Duration::from_secs(240);
        assert!(late <= LONGEST_PAUSE, "{late:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_lasts_ends_the_start() {
        let started = Instant::now();
        let mut asked = 0;
        let answer: Result<(), _> = until_answered("test", async || {
            asked += 1;
            // An API server that starts refuses, and is away again before it has refused for long enough.
            Err(api(if asked == 4 { 503 } else { 403 }))
        })
        .await;
        assert!(matches!(answer, Err(TlsError::Secret(..))));
        assert!(started.elapsed() >= REFUSED_FOR);
        assert!(
            started.elapsed() < 3 * REFUSED_FOR,
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_of_its_own_ends_the_start_at_once() {
        let answer: Result<(), _> =
            until_answered("test", async || Err(TlsError::BadCertificate)).await;
        assert!(matches!(answer, Err(TlsError::BadCertificate)));
    }

    #[test]
    fn load_is_no_refusal() {
        for (code, failure) in [
            (401, Failure::Refused),
            (403, Failure::Refused),
            (404, Failure::Refused),
            (409, Failure::Away),
            (429, Failure::Away),
            (500, Failure::Away),
            (503, Failure::Away),
        ] {
            assert_eq!(api(code).failure(), failure, "{code}");
        }
    }
}
