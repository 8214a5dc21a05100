//! Open connections: their limit, the choice of the one to close when there are too many, and the limits for silence.
//!
//! Nothing authenticates a caller, so any client that reaches a port can open connections. A new connection always gets a
//! place. If there is no room, the connection without an answer that was opened first is closed, so silent connections cannot
//! push out an API server's. A quarter of the places belongs to connections without an answer. Only when fewer are open, the
//! least recently used of the others is closed. Otherwise a caller that keeps all other places in use would leave a new
//! connection no time for its request.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

/// The limit for the time from the opening of a connection to its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for the head of a request, from its first byte. It is one packet.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit for the time between two requests. The API server closes connections that are idle for 90 s (Go's default). It
/// must close first, or its request meets a closed connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// All open connections of one port.
#[derive(Debug)]
pub(super) struct Connections {
    /// The largest number of open connections.
    limit: usize,
    /// Never held across an await: a critical section is a few map operations, or one scan when there is no room.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Arc<ConnectionState>>,
}

/// One open connection. Dropping it makes room.
pub(super) struct ConnectionGuard {
    connections: Arc<Connections>,
    number: u64,
    pub(super) state: Arc<ConnectionState>,
}

/// The state of a connection.
#[derive(Debug)]
pub(super) struct ConnectionState {
    /// The task that serves it, aborted when another connection needs the room.
    task: OnceLock<AbortHandle>,
    /// Held for a few assignments.
    state: Mutex<Activity>,
}

#[derive(Debug)]
struct Activity {
    /// True once a request was answered.
    served: bool,
    /// The time at which it was opened or last had an answer.
    since: Instant,
    /// The number of requests whose heads have been read and that are not answered yet.
    in_flight: usize,
    /// The progress of the next request's head.
    head: RequestHead,
}

/// The received part of the next request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestHead {
    None,
    Begun,
    /// Begun, and seen at this time to be incomplete.
    Awaited(Instant),
}

impl Connections {
    pub(super) fn at_most(limit: usize) -> Self {
        Self {
            limit,
            table: Mutex::default(),
        }
    }

    /// Makes room for one more connection, if need be by closing another.
    pub(super) fn register(self: &Arc<Self>) -> ConnectionGuard {
        let state = Arc::new(ConnectionState {
            task: OnceLock::new(),
            state: Mutex::new(Activity {
                served: false,
                since: Instant::now(),
                in_flight: 0,
                head: RequestHead::None,
            }),
        });
        let mut table = lock(&self.table);
        let victim = table.evict_one(self.limit);
        let number = table.next;
        table.next += 1;
        table.open.insert(number, state.clone());
        drop(table);
        // Aborted after the lock is released, because the end of a connection takes the lock.
        if let Some(task) = victim.as_ref().and_then(|victim| victim.task.get()) {
            task.abort();
        }
        ConnectionGuard {
            connections: self.clone(),
            number,
            state,
        }
    }
}

impl Table {
    /// Removes the connection to close, if there is no room for one more.
    fn evict_one(&mut self, limit: usize) -> Option<Arc<ConnectionState>> {
        if self.open.len() < limit {
            return None;
        }
        let mut new = 0;
        // The oldest connection with an answer and the oldest without: its time and number.
        let mut least: [Option<(Instant, u64)>; 2] = [None; 2];
        for (number, state) in &self.open {
            let Activity { served, since, .. } = *lock(&state.state);
            new += usize::from(!served);
            let least = &mut least[usize::from(!served)];
            let this = (since, *number);
            *least = Some(least.map_or(this, |other| other.min(this)));
        }
        let [served, silent] = least;
        let goes = if new > limit / 4 { silent } else { served };
        let (_, number) = goes.or(silent)?;
        debug!(number, "closing a connection to make room");
        self.open.remove(&number)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        lock(&self.connections.table).open.remove(&self.number);
    }
}

/// A request that is being answered.
pub(super) struct InFlight(Arc<ConnectionState>);

impl ConnectionState {
    /// Sets the task that serves this connection.
    pub(super) fn set_task(&self, task: AbortHandle) {
        // Set once, where the connection is accepted.
        let _ = self.task.set(task);
    }

    /// Records that the head of a request was read.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = lock(&self.state);
        state.in_flight += 1;
        state.head = RequestHead::None;
        InFlight(self.clone())
    }

    /// Records that bytes came in. They are mostly a whole request, so the time is not read here.
    fn on_bytes_read(&self) {
        let mut state = lock(&self.state);
        if state.in_flight == 0 && state.head == RequestHead::None {
            state.head = RequestHead::Begun;
        }
    }

    /// Returns the time at which this silence becomes too long; `None` while a request is answered, because its body has its
    /// own limit.
    fn deadline(&self) -> Option<Instant> {
        let mut state = lock(&self.state);
        if state.in_flight > 0 {
            return None;
        }
        if state.head == RequestHead::Begun {
            state.head = RequestHead::Awaited(Instant::now());
        }
        Some(match state.head {
            RequestHead::Awaited(since) => since + HEAD_TIMEOUT,
            _ if state.served => state.since + IDLE_TIMEOUT,
            _ => state.since + FIRST_REQUEST_TIMEOUT,
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.in_flight -= 1;
        state.served = true;
        state.since = Instant::now();
    }
}

/// The bytes of a connection. Reading fails after too long a silence.
pub(super) struct TimeoutStream<S> {
    stream: S,
    state: Arc<ConnectionState>,
    /// Set to the deadline or earlier, so that a request need not move it.
    alarm: Pin<Box<Sleep>>,
}

impl<S> TimeoutStream<S> {
    pub(super) fn new(stream: S, state: Arc<ConnectionState>) -> Self {
        let alarm = Box::pin(sleep_until(Instant::now() + FIRST_REQUEST_TIMEOUT));
        Self {
            stream,
            state,
            alarm,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                if buffer.filled().len() > before {
                    this.state.on_bytes_read();
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                while let Some(deadline) = this.state.deadline() {
                    if deadline < this.alarm.deadline() {
                        this.alarm.as_mut().reset(deadline);
                    }
                    if this.alarm.as_mut().poll(cx).is_pending() {
                        break;
                    }
                    if Instant::now() >= deadline {
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    // A request has moved the deadline since the alarm was set.
                    this.alarm.as_mut().reset(deadline);
                }
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A panic in a critical section leaves these consistent, so poison is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::task::JoinSet;

    /// Opens connections a millisecond apart, of which these have had no answer.
    async fn open(
        connections: &Arc<Connections>,
        count: usize,
        silent: impl Fn(usize) -> bool,
        tasks: &mut JoinSet<()>,
    ) -> Vec<ConnectionGuard> {
        let mut guards = Vec::new();
        for index in 0..count {
            tokio::time::advance(Duration::from_millis(1)).await;
            let guard = connections.register();
            guard.state.set_task(tasks.spawn(pending()));
            if !silent(index) {
                drop(guard.state.begin());
            }
            guards.push(guard);
        }
        guards
    }

    /// Returns the indices of the connections that were closed.
    async fn gone(guards: &[ConnectionGuard]) -> Vec<usize> {
        // An aborted task ends at its next turn.
        tokio::task::yield_now().await;
        let ended = |guard: &ConnectionGuard| guard.state.task.get().unwrap().is_finished();
        (0..guards.len())
            .filter(|index| ended(&guards[*index]))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_had_an_answer_makes_room_first() {
        let connections = Arc::new(Connections::at_most(8));
        let mut tasks = JoinSet::new();
        let silent = |index| matches!(index, 3 | 5 | 7);
        let guards = open(&connections, 8, silent, &mut tasks).await;
        let mut newcomers = vec![connections.register()];
        assert_eq!(gone(&guards).await, [3]);
        newcomers.push(connections.register());
        assert_eq!(gone(&guards).await, [3, 5]);
        drop(newcomers.pop());
        newcomers.push(connections.register());
        assert_eq!(gone(&guards).await, [3, 5], "there was room again");
    }

    #[tokio::test(start_paused = true)]
    async fn connections_in_use_leave_new_ones_a_quarter_of_the_places() {
        let connections = Arc::new(Connections::at_most(8));
        let mut tasks = JoinSet::new();
        let guards = open(&connections, 8, |_| false, &mut tasks).await;
        let mut newcomers = open(&connections, 3, |_| true, &mut tasks).await;
        assert_eq!(gone(&guards).await, [0, 1, 2]);
        assert!(gone(&newcomers).await.is_empty());
        newcomers.extend(open(&connections, 1, |_| true, &mut tasks).await);
        assert_eq!(gone(&guards).await, [0, 1, 2]);
        assert_eq!(gone(&newcomers).await, [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_silence_has_its_limit() {
        let connections = Arc::new(Connections::at_most(4));
        let started = Instant::now();
        let guard = connections.register();
        let (mut far, near) = duplex(64);
        let mut timed = TimeoutStream::new(near, guard.state.clone());
        let mut buffer = [0; 64];
        let error = timed.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), FIRST_REQUEST_TIMEOUT);

        let guard = connections.register();
        let mut timed = TimeoutStream::new(timed.stream, guard.state.clone());
        far.write_all(b"POST").await.unwrap();
        assert_eq!(timed.read(&mut buffer).await.unwrap(), 4);
        drop(guard.state.begin());
        let answered = Instant::now();
        let read = timed.read(&mut buffer);
        assert!(read.await.is_err());
        assert_eq!(answered.elapsed(), IDLE_TIMEOUT);

        let guard = connections.register();
        drop(guard.state.begin());
        let mut timed = TimeoutStream::new(timed.stream, guard.state.clone());
        far.write_all(b"P").await.unwrap();
        let begun = Instant::now();
        assert_eq!(timed.read(&mut buffer).await.unwrap(), 1);
        assert!(timed.read(&mut buffer).await.is_err());
        assert_eq!(begun.elapsed(), HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_may_be_silent() {
        let connections = Arc::new(Connections::at_most(4));
        let guard = connections.register();
        let (_far, near) = duplex(64);
        let mut timed = TimeoutStream::new(near, guard.state.clone());
        let _request = guard.state.begin();
        let mut buffer = [0; 64];
        let read = tokio::time::timeout(IDLE_TIMEOUT * 2, timed.read(&mut buffer));
        assert!(read.await.is_err(), "it still waits");
    }
}
