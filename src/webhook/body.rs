//! Reads a request's body within a budget of memory and time.
//!
//! Callers are not authenticated, so all bodies together are bounded. Bytes count as they arrive, not as they are announced: a
//! caller that announces much and sends nothing takes nothing from others. A body without room does not wait. It is read and
//! dropped, except the beginning, which names the review to allow. The same goes for large bodies while others are parsed:
//! parsing takes processor time, which small reviews and probes need too.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode, Uri};
use futures::FutureExt;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::response::RequestError;
use crate::metrics::Lack;
use crate::server::MAX_CONNECTIONS;

/// The limit for a body. The API server accepts objects of 3 MiB, and an update carries two of them. controller-runtime has
/// the same limit.
pub const MAX_BODY: usize = 7 * 1024 * 1024;
/// The memory for all bodies at a time: four of the largest, or thousands of ordinary ones.
pub(super) const MEMORY_BUDGET: usize = 64 * 1024 * 1024;
/// The part of the budget that is reserved for the beginnings of bodies without room: one for each connection.
const KEPT_PREFIXES: usize = MAX_CONNECTIONS * KEPT_PREFIX;
/// The most memory that a byte of a body takes: a buffer grows to twice its content.
const COST: usize = 2;
/// The size of the prefix that is kept of a body without room. The API server writes the uid into the first 200 bytes.
pub(super) const KEPT_PREFIX: usize = 8 * 1024;
/// A body up to this size is parsed where it was read. A larger one is parsed on another thread, so that the webhook's threads
/// stay free for other requests.
pub(super) const SMALL: usize = 64 * 1024;
/// The limit for a large body's wait until it is parsed. 200 reviews of 100 KB that come at once take 70 ms on one processor,
/// and no user notices twice that. Only an attack takes longer, and need not be served.
pub(super) const TURN: Duration = Duration::from_millis(200);
/// The limit for a body if the caller names no timeout. The longest timeout of an API server is 30 s, and a body that takes a
/// third of it will not come.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The part of the caller's timeout that is left for sending the answer.
const RESPONSE_MARGIN: Duration = Duration::from_millis(200);

/// A request's body.
pub(super) enum ReceivedBody {
    /// The whole body. The permit is its share of the budget.
    Complete(Bytes, Option<OwnedSemaphorePermit>),
    /// The beginning of the body, and the missing resource for the rest.
    Truncated(Vec<u8>, Lack),
}

/// The memory that bodies may take, and the processors that parse large ones.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    memory: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Default for MemoryBudget {
    /// All processors but one parse large bodies, and at least one does.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            memory: Arc::new(Semaphore::new(MEMORY_BUDGET - KEPT_PREFIXES)),
            turns: Arc::new(Semaphore::new(processors.saturating_sub(1).max(1))),
        }
    }
}

/// Returns the time until which a caller waits, from the API server's parameter in the URL.
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
        .map(|seconds: u32| Duration::from_secs(seconds.into()).saturating_sub(RESPONSE_MARGIN));
    now + given.map_or(TIMEOUT, |given| given.min(TIMEOUT))
}

/// Reads a body.
pub(super) async fn receive(
    headers: &HeaderMap,
    mut body: Body,
    budget: &MemoryBudget,
    deadline: Instant,
) -> Result<ReceivedBody, RequestError> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    let mut reader = BodyReader {
        budget,
        announced: announced.unwrap_or_default(),
        read: 0,
        buffer: Vec::new(),
        permit: None,
        shed: None,
    };
    loop {
        // Mostly the frame has arrived already, and needs no timer.
        let frame = match body.frame().now_or_never() {
            Some(frame) => Ok(frame),
            None => timeout_at(deadline, body.frame()).await,
        };
        let frame = match frame {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(RequestError(
                    StatusCode::BAD_REQUEST,
                    format!("the body broke off: {error}"),
                ));
            }
            Err(_) => {
                reader.shed(Lack::Time);
                break;
            }
        };
        let chunk = frame.into_data().unwrap_or_default();
        // The usual case: the whole body came with the headers, and is not copied.
        if reader.read == 0
            && announced == Some(chunk.len())
            && let Some(permit) = budget.take(chunk.len())
        {
            return Ok(ReceivedBody::Complete(chunk, Some(permit)));
        }
        reader.take(&chunk)?;
    }
    Ok(reader.finish())
}

fn too_large() -> RequestError {
    RequestError(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is over the length limit of {MAX_BODY} bytes"),
    )
}

impl MemoryBudget {
    /// Takes all remaining memory.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> OwnedSemaphorePermit {
        Self::all_of(&self.memory)
    }

    /// Takes all remaining processors.
    #[cfg(test)]
    pub(super) fn take_all_turns(&self) -> OwnedSemaphorePermit {
        Self::all_of(&self.turns)
    }

    /// Returns the bytes of memory and the number of processors in use.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> (usize, usize) {
        let Self { memory, turns } = Self::default();
        (
            memory.available_permits() - self.memory.available_permits(),
            turns.available_permits() - self.turns.available_permits(),
        )
    }

    #[cfg(test)]
    fn all_of(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        let all = u32::try_from(semaphore.available_permits()).unwrap();
        semaphore.clone().try_acquire_many_owned(all).unwrap()
    }

    /// Waits for a turn to parse a large body; `None` if there is none within [`TURN`].
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = timeout(TURN, self.turns.clone().acquire_owned()).await;
        turn.ok()?.ok()
    }

    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let cost = u32::try_from(bytes.saturating_mul(COST)).ok()?;
        self.memory.clone().try_acquire_many_owned(cost).ok()
    }
}

struct BodyReader<'a> {
    budget: &'a MemoryBudget,
    announced: usize,
    read: usize,
    buffer: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
    shed: Option<Lack>,
}

impl BodyReader<'_> {
    fn take(&mut self, chunk: &[u8]) -> Result<(), RequestError> {
        self.read = self.read.saturating_add(chunk.len());
        if self.read > MAX_BODY {
            return Err(too_large());
        }
        if self.shed.is_none() {
            match (self.budget.take(chunk.len()), &mut self.permit) {
                (Some(more), Some(permit)) => permit.merge(more),
                (Some(first), none) => {
                    *none = Some(first);
                    let paid_for = chunk.len() * COST;
                    self.buffer.reserve(self.announced.min(paid_for));
                }
                (None, _) => self.shed(Lack::Memory),
            }
        }
        let room = if self.shed.is_some() {
            KEPT_PREFIX.saturating_sub(self.buffer.len())
        } else {
            chunk.len()
        };
        self.buffer
            .extend_from_slice(chunk.get(..room).unwrap_or(chunk));
        Ok(())
    }

    fn shed(&mut self, lack: Lack) {
        self.shed.get_or_insert(lack);
        self.buffer.truncate(KEPT_PREFIX);
        self.buffer.shrink_to_fit();
        self.permit = None;
    }

    fn finish(self) -> ReceivedBody {
        match self.shed {
            Some(lack) => ReceivedBody::Truncated(self.buffer, lack),
            None => ReceivedBody::Complete(self.buffer.into(), self.permit),
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

    async fn read(body: Body, budget: &MemoryBudget) -> Result<ReceivedBody, RequestError> {
        receive(&HeaderMap::new(), body, budget, Instant::now() + TIMEOUT).await
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_read_to_its_end_and_only_its_beginning_kept() {
        let budget = MemoryBudget::default();
        let mut held = Vec::new();
        for _ in 0..(MEMORY_BUDGET - KEPT_PREFIXES) / (MAX_BODY / 8192 * 8192 * COST) {
            let Ok(ReceivedBody::Complete(body, permit)) = read(chunked(MAX_BODY), &budget).await
            else {
                panic!("there is room");
            };
            held.push((body, permit));
        }
        let Ok(ReceivedBody::Truncated(prefix, Lack::Memory)) =
            read(chunked(MAX_BODY), &budget).await
        else {
            panic!("there is no room left");
        };
        assert_eq!(prefix.len(), KEPT_PREFIX);
        assert!(prefix.capacity() < 2 * KEPT_PREFIX);
        assert!(matches!(
            read(chunked(MAX_BODY + 8192), &budget).await,
            Err(RequestError(StatusCode::PAYLOAD_TOO_LARGE, _))
        ));
        drop(held);
        assert_eq!(budget.in_use(), (0, 0), "all of it comes back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_gives_up_its_room_in_time() {
        let budget = MemoryBudget::default();
        let begun = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{}"))]);
        let endless = Body::from_stream(futures::StreamExt::chain(begun, stream::pending()));
        let Ok(ReceivedBody::Truncated(prefix, Lack::Time)) = read(endless, &budget).await else {
            panic!("it never ends");
        };
        assert_eq!(prefix, b"{}");
        assert_eq!(budget.in_use(), (0, 0));
    }
}
