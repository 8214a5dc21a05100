//! Turns on a cluster that the tests of a suite share.
//!
//! A test that stays in its own namespaces takes a shared turn ([`ClusterLock::shared`]): several run at a time, and none
//! depends on what the whole cluster does. A test that sets flags, restarts a component, changes objects of all namespaces, or
//! counts the actions of the cluster takes a turn alone ([`ClusterLock::alone`]).
//!
//! Shared turns go first. A suite with as many threads as tests (`RUST_TEST_THREADS`) so runs all tests that share, then the
//! others one by one in the order of their ranks ([`ClusterLock::alone_in`]) and then in that in which they asked, and last those that
//! have a cluster of their own ([`ClusterLock::without_cluster`]).

mod queue;

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::times;
use queue::{Kind, Queue, Ticket};

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
        self.alone_in(0, start).await
    }

    /// As [`Self::alone`], after the tests of lower ranks. Tests that want the same setting of the cluster have one rank, so that it
    /// is changed once.
    pub async fn alone_in(&'static self, rank: u8, start: impl AsyncFnOnce() -> T) -> Alone<T> {
        let mut turn = self.turn(Kind::Alone(rank)).await;
        if turn.cluster.is_none() {
            *turn.cluster = Some(timed(start).await);
            turn.turn.begins();
        }
        turn
    }

    /// Waits for a turn without any other test, and leaves the cluster as it is: there may be none.
    pub async fn as_it_is(&'static self) -> Alone<T> {
        self.turn(Kind::Alone(0)).await
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
