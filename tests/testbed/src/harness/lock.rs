//! Turns on a cluster that the tests of a suite share.
//!
//! A test that stays in its own namespaces takes a shared turn ([`ClusterLock::shared`]): several run at a time, and none
//! depends on what the whole cluster does. A test that sets flags, restarts a component, changes objects of all namespaces, or
//! counts the actions of the cluster takes a turn alone ([`ClusterLock::alone`]).
//!
//! Shared turns go first. A suite with as many threads as tests (`RUST_TEST_THREADS`) so runs all tests that share, then the
//! others one by one in the order in which they asked, and last those that have a cluster of their own
//! ([`ClusterLock::without_cluster`]).

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::times;

/// In this time after the first test asks, libtest starts those that can start: those that share are to be among the first.
const GATHERING: Duration = Duration::from_millis(500);

/// A cluster, and whose turn it is. The first turn starts the cluster.
#[derive(Debug)]
pub struct ClusterLock<T> {
    cluster: RwLock<Option<T>>,
    /// Held by the turn that starts the cluster: the others that share it wait for this.
    starting: tokio::sync::Mutex<()>,
    queue: Queue,
}

impl<T> ClusterLock<T> {
    /// A lock with at most so many shared turns at a time.
    pub const fn new(most_shared: usize) -> Self {
        Self {
            cluster: RwLock::const_new(None),
            starting: tokio::sync::Mutex::const_new(()),
            queue: Queue::new(most_shared),
        }
    }

    /// Waits for a turn that is shared with other tests.
    ///
    /// A test that fails leaves the cluster to those that share it.
    pub async fn shared(&'static self, start: impl AsyncFnOnce() -> T) -> Shared<T> {
        let mut turn = self.queue.turn(Kind::Shared).await;
        let starting = self.starting.lock().await;
        if self.cluster.read().await.is_none() {
            *self.cluster.write().await = Some(timed(start).await);
        }
        drop(starting);
        turn.begins();
        Shared {
            cluster: self.cluster.read().await,
            turn,
        }
    }

    /// Waits for a turn without any other test.
    ///
    /// A test that fails leaves the cluster in an unknown state: the next turn starts another.
    pub async fn alone(&'static self, start: impl AsyncFnOnce() -> T) -> Alone<T> {
        let mut turn = self.turn(Kind::Alone).await;
        if turn.cluster.is_none() {
            *turn.cluster = Some(timed(start).await);
            turn.turn.begins();
        }
        turn
    }

    /// Waits for a turn without any other test, and leaves the cluster as it is: there may be none.
    pub async fn as_it_is(&'static self) -> Alone<T> {
        self.turn(Kind::Alone).await
    }

    /// Waits until no other test has a turn or waits for one, and ends the cluster: for a test with a cluster of its own.
    pub async fn without_cluster(&'static self) -> Alone<T> {
        let mut turn = self.turn(Kind::Last).await;
        turn.cluster.take();
        turn
    }

    async fn turn(&'static self, kind: Kind) -> Alone<T> {
        let turn = self.queue.turn(kind).await;
        Alone {
            cluster: self.cluster.write().await,
            turn,
        }
    }
}

/// Starts a cluster and writes down how long that took.
async fn timed<T>(start: impl AsyncFnOnce() -> T) -> T {
    let begun = Instant::now();
    let cluster = start().await;
    times::record("(start of the cluster)", Duration::ZERO, begun.elapsed());
    cluster
}

/// A shared turn.
#[derive(Debug)]
pub struct Shared<T: 'static> {
    cluster: RwLockReadGuard<'static, Option<T>>,
    // Last: the next turn begins when the guard above is gone.
    turn: Ticket,
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.cluster
            .as_ref()
            .unwrap_or_else(|| self.turn.no_cluster())
    }
}

/// A turn without any other test.
#[derive(Debug)]
pub struct Alone<T: 'static> {
    cluster: RwLockWriteGuard<'static, Option<T>>,
    // Last: the next turn begins when the guard above is gone.
    turn: Ticket,
}

impl<T> Alone<T> {
    /// Takes the cluster away, to end it or to put another in its place.
    pub fn take(&mut self) -> Option<T> {
        self.cluster.take()
    }

    /// Leaves it to another turn of the same test to write down how long the test took.
    #[must_use]
    pub fn unrecorded(mut self) -> Self {
        self.turn.is_recorded = false;
        self
    }

    /// Puts a cluster in its place.
    pub fn put(&mut self, cluster: T) -> &mut T {
        self.cluster.insert(cluster)
    }
}

impl<T> Deref for Alone<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.cluster
            .as_ref()
            .unwrap_or_else(|| self.turn.no_cluster())
    }
}

impl<T> DerefMut for Alone<T> {
    fn deref_mut(&mut self) -> &mut T {
        let turn = &self.turn;
        self.cluster.as_mut().unwrap_or_else(|| turn.no_cluster())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        self.turn.record();
    }
}

impl<T> Drop for Alone<T> {
    fn drop(&mut self) {
        self.turn.record();
        if std::thread::panicking() {
            self.cluster.take();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Shared,
    Alone,
    /// Alone, when no other kind waits.
    Last,
}

/// The tests that have a turn, and those that wait. It knows nothing of runtimes: each test has its own.
#[derive(Debug)]
struct Queue {
    most_shared: usize,
    /// A std lock: held to look and to change numbers.
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    shared: usize,
    alone: bool,
    shared_waiting: usize,
    /// Those that wait to be alone: first by whether they are the last, then in the order in which they asked.
    alone_waiting: BTreeSet<(bool, u64)>,
    next_ticket: u64,
    first_asked: Option<Instant>,
}

impl Queue {
    const fn new(most_shared: usize) -> Self {
        Self {
            most_shared,
            state: Mutex::new(State {
                shared: 0,
                alone: false,
                shared_waiting: 0,
                alone_waiting: BTreeSet::new(),
                next_ticket: 0,
                first_asked: None,
            }),
            changed: Notify::const_new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&'static self, kind: Kind) -> Ticket {
        let asked = Instant::now();
        let (ticket, first) = self.enter(kind);
        if kind != Kind::Shared {
            tokio::time::sleep(GATHERING.saturating_sub(first.elapsed())).await;
        }
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on a change is not missed.
            changed.as_mut().enable();
            if self.try_turn(kind, ticket) {
                break;
            }
            changed.await;
        }
        // The others look again: several may share.
        self.changed.notify_waiters();
        Ticket {
            queue: self,
            kind,
            waited: asked.elapsed(),
            begun: Instant::now(),
            is_recorded: true,
        }
    }

    /// Returns the ticket, and when the first test asked.
    fn enter(&self, kind: Kind) -> (u64, Instant) {
        let mut state = self.state();
        let first = *state.first_asked.get_or_insert_with(Instant::now);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        match kind {
            Kind::Shared => state.shared_waiting += 1,
            Kind::Alone | Kind::Last => {
                state.alone_waiting.insert((kind == Kind::Last, ticket));
            }
        }
        (ticket, first)
    }

    fn try_turn(&self, kind: Kind, ticket: u64) -> bool {
        let mut state = self.state();
        match kind {
            Kind::Shared => {
                let free = !state.alone && state.shared < self.most_shared;
                if free {
                    state.shared += 1;
                    state.shared_waiting -= 1;
                }
                free
            }
            Kind::Alone | Kind::Last => {
                let place = (kind == Kind::Last, ticket);
                let free = !state.alone && state.shared == 0 && state.shared_waiting == 0;
                let first = free && state.alone_waiting.first() == Some(&place);
                if first {
                    state.alone = true;
                    state.alone_waiting.remove(&place);
                }
                first
            }
        }
    }

    fn leave(&self, kind: Kind) {
        let mut state = self.state();
        match kind {
            Kind::Shared => state.shared -= 1,
            Kind::Alone | Kind::Last => state.alone = false,
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

/// A turn that has begun. Its end lets the next begin.
#[derive(Debug)]
struct Ticket {
    queue: &'static Queue,
    kind: Kind,
    waited: Duration,
    begun: Instant,
    is_recorded: bool,
}

impl Ticket {
    /// Counts what came before as waiting: the start of the cluster.
    fn begins(&mut self) {
        self.waited += self.begun.elapsed();
        self.begun = Instant::now();
    }

    fn record(&self) {
        if self.is_recorded {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("(unknown)");
            times::record(test, self.waited, self.begun.elapsed());
        }
    }

    fn no_cluster(&self) -> ! {
        panic!("this test has taken the cluster away ({:?})", self.kind)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.leave(self.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(most_shared: usize) -> &'static Queue {
        Box::leak(Box::new(Queue::new(most_shared)))
    }

    #[tokio::test]
    async fn shared_turns_are_limited_and_exclude_one_that_is_alone() {
        let queue = queue(2);
        let one = queue.turn(Kind::Shared).await;
        let two = queue.turn(Kind::Shared).await;
        let third = tokio::spawn(queue.turn(Kind::Shared));
        let alone = tokio::spawn(queue.turn(Kind::Alone));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!third.is_finished() && !alone.is_finished());
        drop(one);
        let third = third.await.unwrap();
        assert!(!alone.is_finished());
        drop((two, third));
        let alone = alone.await.unwrap();
        let shared = tokio::spawn(queue.turn(Kind::Shared));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!shared.is_finished());
        drop(alone);
        shared.await.unwrap();
    }

    #[tokio::test]
    async fn shared_turns_go_first_and_the_others_in_the_order_in_which_they_asked() {
        let queue = queue(4);
        let first = queue.turn(Kind::Alone).await;
        let last = tokio::spawn(queue.turn(Kind::Last));
        tokio::task::yield_now().await;
        let second = tokio::spawn(queue.turn(Kind::Alone));
        tokio::task::yield_now().await;
        let third = tokio::spawn(queue.turn(Kind::Alone));
        tokio::task::yield_now().await;
        let shared = tokio::spawn(queue.turn(Kind::Shared));
        tokio::task::yield_now().await;
        drop(first);
        let shared = shared.await.unwrap();
        assert!(!second.is_finished());
        drop(shared);
        let second = second.await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!third.is_finished());
        drop(second);
        let third = third.await.unwrap();
        assert!(!last.is_finished());
        drop(third);
        last.await.unwrap();
    }
}
