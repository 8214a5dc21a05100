//! Queued events: a queue for each namespace, served in turn.
//!
//! They are for people, a few for each rollout. A namespace that causes thousands of them, or in which they are written slowly,
//! fills its own queue and no other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The number of events that each namespace may always have in its queue: about ten rollouts' worth.
const PER_NAMESPACE: usize = 32;
/// Below this total, a namespace may queue more than that: a new leader may find a hundred rollouts in one.
const SHARED: usize = 1024;
/// The largest number of queued namespaces. A new leader may find a rollout in each.
const NAMESPACES: usize = 1024;
/// The largest number of queued events, of some 1.5 KiB each. Above it there is still room for one in each namespace.
const QUEUE_SIZE: usize = 4096;

/// The queue of events.
#[derive(Debug)]
pub(super) struct EventQueue<T> {
    /// Never held across an await: every critical section is a few map operations.
    state: Mutex<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    /// The queues of the namespaces with an event that waits or is being written.
    waiting: HashMap<String, VecDeque<T>>,
    /// The namespaces with an event that waits and none that is being written.
    turns: VecDeque<String>,
    /// The number of waiting events.
    count: usize,
    closed: bool,
}

impl<T> Default for EventQueue<T> {
    fn default() -> Self {
        let state = State {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            count: 0,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }
}

impl<T> EventQueue<T> {
    /// Adds an event if there is room. Returns whether there was. Never waits.
    pub(super) fn push(&self, namespace: &str, item: T) -> bool {
        let mut state = self.lock();
        let (shared, full) = (state.count >= SHARED, state.count >= QUEUE_SIZE);
        let namespaces = state.waiting.len();
        match state.waiting.get_mut(namespace) {
            Some(queue)
                if (shared && queue.len() >= PER_NAMESPACE) || (full && !queue.is_empty()) =>
            {
                return false;
            }
            Some(queue) => queue.push_back(item),
            None if namespaces >= NAMESPACES => return false,
            None => {
                state.waiting.insert(namespace.to_owned(), [item].into());
                state.turns.push_back(namespace.to_owned());
            }
        }
        state.count += 1;
        drop(state);
        self.changed.notify_one();
        true
    }

    /// Waits for the next event, and returns it with its namespace. The namespace has no other turn before [`Self::done`].
    /// `None` once the queue is closed and empty. For a single taker.
    pub(super) async fn next(&self) -> Option<(String, T)> {
        loop {
            {
                let mut state = self.lock();
                if let Some(next) = state.take() {
                    return Some(next);
                }
                if state.closed && state.count == 0 {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Records that the event taken from a namespace was written or given up.
    pub(super) fn done(&self, namespace: &str) {
        let mut state = self.lock();
        if state.waiting.get(namespace).is_some_and(VecDeque::is_empty) {
            state.waiting.remove(namespace);
        } else {
            state.turns.push_back(namespace.to_owned());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Closes the queue: no more events come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// A panic in a critical section leaves no queue half-written, so poison is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<(String, T)> {
        let namespace = self.turns.pop_front()?;
        let item = self.waiting.get_mut(&namespace)?.pop_front()?;
        self.count -= 1;
        Some((namespace, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn next(queue: &EventQueue<u32>) -> Option<(String, u32)> {
        queue.next().now_or_never().flatten()
    }

    #[test]
    fn namespaces_take_turns_and_each_has_one_on_its_way() {
        let queue = EventQueue::default();
        for item in 0..3 {
            assert!(queue.push("a", item));
        }
        assert!(queue.push("b", 10));
        assert_eq!(next(&queue), Some(("a".into(), 0)));
        assert_eq!(next(&queue), Some(("b".into(), 10)));
        assert_eq!(next(&queue), None, "both have one on its way");
        queue.done("b");
        queue.done("a");
        assert!(queue.push("b", 11));
        assert_eq!(next(&queue), Some(("a".into(), 1)));
        assert_eq!(next(&queue), Some(("b".into(), 11)));
    }

    #[test]
    fn each_namespace_has_its_room_and_all_together_have() {
        let queue = EventQueue::default();
        let taken = |namespace: &str| (0..5000).filter(|i| queue.push(namespace, *i)).count();
        assert_eq!(taken("noisy"), SHARED);
        assert_eq!(taken("other"), PER_NAMESPACE);
        let mut all = SHARED + PER_NAMESPACE;
        for number in 2..NAMESPACES {
            all += taken(&number.to_string());
        }
        let after_full = NAMESPACES - 1 - (QUEUE_SIZE - SHARED) / PER_NAMESPACE;
        assert_eq!(all, QUEUE_SIZE + after_full, "one in each");
        assert_eq!(taken("one too many"), 0);
    }

    #[tokio::test]
    async fn it_ends_when_all_is_taken_and_no_more_can_come() {
        let queue = EventQueue::default();
        queue.push("a", 1);
        queue.push("a", 2);
        queue.close();
        assert!(queue.next().await.is_some());
        assert_eq!(next(&queue), None, "one is on its way");
        queue.done("a");
        assert!(queue.next().await.is_some());
        assert!(queue.next().await.is_none());
    }
}
