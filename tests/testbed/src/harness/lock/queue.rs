//! The order of turns. It knows nothing of clusters.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::times;

/// In this time after the first test asks, libtest starts those that can start: those that share are to be among the first.
const GATHERING: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Shared,
    /// Alone, after those of lower ranks.
    Alone(u8),
    /// Alone, when no other kind waits.
    Last,
}

impl Kind {
    /// Returns the place among those that wait to be alone.
    fn place(self) -> (bool, u8) {
        match self {
            Self::Shared => (false, 0),
            Self::Alone(rank) => (false, rank),
            Self::Last => (true, 0),
        }
    }
}

/// The tests that have a turn, and those that wait. It knows nothing of runtimes: each test has its own.
#[derive(Debug)]
pub(super) struct Queue {
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
    /// Those that wait to be alone: first by their place, then in the order in which they asked.
    alone_waiting: BTreeSet<((bool, u8), u64)>,
    next_ticket: u64,
    first_asked: Option<Instant>,
}

impl Queue {
    pub(super) const fn new(most_shared: usize) -> Self {
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

    pub(super) async fn turn(&'static self, kind: Kind) -> Ticket {
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
            Kind::Alone(_) | Kind::Last => {
                state.alone_waiting.insert((kind.place(), ticket));
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
            Kind::Alone(_) | Kind::Last => {
                let place = (kind.place(), ticket);
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
            Kind::Alone(_) | Kind::Last => state.alone = false,
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

/// A turn that has begun. Its end lets the next begin.
#[derive(Debug)]
pub(super) struct Ticket {
    queue: &'static Queue,
    kind: Kind,
    waited: Duration,
    begun: Instant,
    pub(super) is_recorded: bool,
}

impl Ticket {
    /// Counts what came before as waiting: the start of the cluster.
    pub(super) fn begins(&mut self) {
        self.waited += self.begun.elapsed();
        self.begun = Instant::now();
    }

    pub(super) fn record(&self) {
        if self.is_recorded {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("(unknown)");
            times::record(test, self.waited, self.begun.elapsed());
        }
    }

    pub(super) fn no_cluster(&self) -> ! {
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
        let alone = tokio::spawn(queue.turn(Kind::Alone(0)));
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
    async fn shared_turns_go_first_and_the_others_by_rank_in_the_order_in_which_they_asked() {
        let queue = queue(4);
        let first = queue.turn(Kind::Alone(0)).await;
        let last = tokio::spawn(queue.turn(Kind::Last));
        tokio::task::yield_now().await;
        let ranked = tokio::spawn(queue.turn(Kind::Alone(1)));
        tokio::task::yield_now().await;
        let second = tokio::spawn(queue.turn(Kind::Alone(0)));
        tokio::task::yield_now().await;
        let third = tokio::spawn(queue.turn(Kind::Alone(0)));
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
        assert!(!ranked.is_finished() && !last.is_finished());
        drop(third);
        let ranked = ranked.await.unwrap();
        assert!(!last.is_finished());
        drop(ranked);
        last.await.unwrap();
    }
}
