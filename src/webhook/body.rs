//! Reads a request's body within a budget of memory and time.
//!
//! Callers are not authenticated, so all bodies together are bounded. Bytes count as they arrive, not as they are
//! announced: a caller that announces much and sends nothing takes nothing from others. Who finds no room is not kept
//! waiting: its body is read and dropped, all but the beginning, which names the review to allow.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode, Uri};
use futures::FutureExt;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::answer::Refused;

/// The API server accepts objects of 3 MiB, and an update carries two of them; controller-runtime draws the same
/// line.
pub const MAX_BODY: usize = 7 * 1024 * 1024;
/// What all bodies may take at a time: four of the largest, or thousands of ordinary ones.
pub const BUDGET: usize = 64 * 1024 * 1024;
/// What a byte of a body takes at most: a buffer grows to twice of what it holds.
const COST: usize = 2;
/// What is kept of a body that there is no room for.
const PREFIX: usize = 16 * 1024;
/// How long a body may take where the caller does not say how long it waits. The longest that an API server waits
/// is 30 s, and what takes a third of it will not come.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is left of the caller's patience for the answer to travel.
const MARGIN: Duration = Duration::from_millis(200);

/// A request's body.
pub(super) enum Received<'a> {
    /// All of it. The permit is its share of the budget.
    Whole(Bytes, Option<SemaphorePermit<'a>>),
    /// No room or no time: the beginning of it.
    Beginning(Vec<u8>),
}

/// The memory that bodies may take.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }
}

/// Until when a caller waits: the API server says so in the URL.
pub(super) fn deadline(uri: &Uri, now: Instant) -> Instant {
    let given = uri
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'))
        .find_map(|pair| {
            pair.strip_prefix("timeout=")?
                .strip_suffix('s')?
                .parse()
                .ok()
        })
        .map(|seconds: u32| Duration::from_secs(seconds.into()).saturating_sub(MARGIN));
    now + given.map_or(TIMEOUT, |given| given.min(TIMEOUT))
}

/// Reads a body.
pub(super) async fn receive<'a>(
    headers: &HeaderMap,
    mut body: Body,
    budget: &'a Budget,
    deadline: Instant,
) -> Result<Received<'a>, Refused> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    let mut reading = Reading {
        budget,
        announced: announced.unwrap_or_default(),
        read: 0,
        buffer: Vec::new(),
        permit: None,
        shed: false,
    };
    loop {
        // Mostly it is there, and takes no timer.
        let frame = match body.frame().now_or_never() {
            Some(frame) => Ok(frame),
            None => timeout_at(deadline, body.frame()).await,
        };
        let frame = match frame {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(Refused(
                    StatusCode::BAD_REQUEST,
                    format!("the body broke off: {error}"),
                ));
            }
            Err(_) => {
                reading.shed();
                break;
            }
        };
        let chunk = frame.into_data().unwrap_or_default();
        // The usual case: all of it came with the headers, and is not copied.
        if reading.read == 0
            && announced == Some(chunk.len())
            && let Some(permit) = budget.take(chunk.len())
        {
            return Ok(Received::Whole(chunk, Some(permit)));
        }
        reading.take(&chunk)?;
    }
    Ok(reading.finish())
}

fn too_large() -> Refused {
    Refused(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is over the length limit of {MAX_BODY} bytes"),
    )
}

impl Budget {
    /// All that is left.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> SemaphorePermit<'_> {
        let all = u32::try_from(self.0.available_permits()).unwrap();
        self.0.try_acquire_many(all).unwrap()
    }

    fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let cost = u32::try_from(bytes.saturating_mul(COST)).ok()?;
        self.0.try_acquire_many(cost).ok()
    }
}

struct Reading<'a> {
    budget: &'a Budget,
    announced: usize,
    read: usize,
    buffer: Vec<u8>,
    permit: Option<SemaphorePermit<'a>>,
    shed: bool,
}

impl<'a> Reading<'a> {
    fn take(&mut self, chunk: &[u8]) -> Result<(), Refused> {
        self.read = self.read.saturating_add(chunk.len());
        if self.read > MAX_BODY {
            return Err(too_large());
        }
        if !self.shed {
            match (self.budget.take(chunk.len()), &mut self.permit) {
                (Some(more), Some(permit)) => permit.merge(more),
                (Some(first), none) => {
                    *none = Some(first);
                    let paid_for = chunk.len() * COST;
                    self.buffer.reserve(self.announced.min(paid_for));
                }
                (None, _) => self.shed(),
            }
        }
        let room = if self.shed {
            PREFIX.saturating_sub(self.buffer.len())
        } else {
            chunk.len()
        };
        self.buffer
            .extend_from_slice(chunk.get(..room).unwrap_or(chunk));
        Ok(())
    }

    fn shed(&mut self) {
        self.shed = true;
        self.buffer.truncate(PREFIX);
        self.buffer.shrink_to_fit();
        self.permit = None;
    }

    fn finish(self) -> Received<'a> {
        if self.shed {
            Received::Beginning(self.buffer)
        } else {
            Received::Whole(self.buffer.into(), self.permit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::convert::Infallible;

    #[test]
    fn the_callers_patience_is_read_from_the_url() {
        let now = Instant::now();
        let after = |uri: &str| deadline(&uri.parse().unwrap(), now) - now;
        assert_eq!(after("/mutate?timeout=2s"), Duration::from_millis(1800));
        assert_eq!(after("/mutate?a=b&timeout=1s"), Duration::from_millis(800));
        assert_eq!(after("/mutate?timeout=30s"), TIMEOUT);
        for silent in ["/mutate", "/mutate?timeout=soon", "/mutate?timeout=-1s"] {
            assert_eq!(after(silent), TIMEOUT, "{silent}");
        }
    }

    /// In chunks, and without saying how much.
    fn chunked(bytes: usize) -> Body {
        let chunk = || Ok::<_, Infallible>(Bytes::from_static(&[b' '; 8192]));
        Body::from_stream(stream::iter((0..bytes / 8192).map(move |_| chunk())))
    }

    async fn read(body: Body, budget: &Budget) -> Result<Received<'_>, Refused> {
        receive(&HeaderMap::new(), body, budget, Instant::now() + TIMEOUT).await
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_read_to_its_end_and_only_its_beginning_kept() {
        let budget = Budget::default();
        let mut held = Vec::new();
        for _ in 0..BUDGET / (MAX_BODY / 8192 * 8192 * COST) {
            let Ok(Received::Whole(body, permit)) = read(chunked(MAX_BODY), &budget).await else {
                panic!("there is room");
            };
            held.push((body, permit));
        }
        let Ok(Received::Beginning(prefix)) = read(chunked(MAX_BODY), &budget).await else {
            panic!("there is no room left");
        };
        assert_eq!(prefix.len(), PREFIX);
        assert!(prefix.capacity() < 2 * PREFIX);
        assert!(matches!(
            read(chunked(MAX_BODY + 8192), &budget).await,
            Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, _))
        ));
        drop(held);
        assert_eq!(budget.0.available_permits(), BUDGET, "all of it comes back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_gives_up_its_room_in_time() {
        let budget = Budget::default();
        let begun = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{}"))]);
        let endless = Body::from_stream(futures::StreamExt::chain(begun, stream::pending()));
        let Ok(Received::Beginning(prefix)) = read(endless, &budget).await else {
            panic!("it never ends");
        };
        assert_eq!(prefix, b"{}");
        assert_eq!(budget.0.available_permits(), BUDGET);
    }
}
