//! What the worker has to look at: keys of Deployments and of places, each at most once however often it was pushed.
//!
//! Keys, not payloads: whoever takes one reads the newest state from the caches, so the latest wins without
//! anything to compare. A key is pushed for stored objects only, which bounds the queue by what the caches
//! hold anyway. Reviews are not stored objects yet; they wait in [`Hints`], bounded, until a watch confirms them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use headstart_core::image::ImageSetId;
use headstart_core::workload::DeploymentKey;

/// Keys in the order of their first push.
#[derive(Debug)]
pub struct Queue<K = DeploymentKey> {
    /// Never held across an await: every critical section is a few map operations.
    keys: Mutex<Waiting<K>>,
    pushed: Notify,
}

#[derive(Debug)]
struct Waiting<K> {
    order: VecDeque<(K, Instant)>,
    known: HashSet<K>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let keys = Mutex::new(Waiting {
            order: VecDeque::new(),
            known: HashSet::new(),
        });
        Self {
            keys,
            pushed: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Adds a key unless it is waiting already. Never waits.
    pub fn push(&self, key: K) {
        {
            let Waiting { order, known } = &mut *lock(&self.keys);
            if !known.insert(key.clone()) {
                return;
            }
            order.push_back((key, Instant::now()));
        }
        self.pushed.notify_one();
    }

    /// Takes the oldest key, waiting for one. For a single taker; cancelling loses nothing.
    pub async fn take(&self) -> K {
        loop {
            if let Some(key) = self.try_take() {
                return key;
            }
            self.pushed.notified().await;
        }
    }

    fn try_take(&self) -> Option<K> {
        let Waiting { order, known } = &mut *lock(&self.keys);
        let (key, _) = order.pop_front()?;
        known.remove(&key);
        Some(key)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let Waiting { order, known } = &mut *lock(&self.keys);
        order.clear();
        known.clear();
    }

    /// How many keys wait.
    pub fn len(&self) -> usize {
        lock(&self.keys).order.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long the oldest key has waited; nothing if none waits.
    pub fn age(&self, now: Instant) -> Duration {
        let oldest = lock(&self.keys).order.front().map(|(_, since)| *since);
        oldest.map_or(Duration::ZERO, |since| now.duration_since(since))
    }
}

/// Most reviews that wait for their confirmation. A confirmation takes milliseconds, so a real API server never
/// comes near; whoever forges reviews fills this and no more. About 200 bytes each.
pub const MAX_HINTS: usize = 4096;

/// How long a review waits for its object to be stored: webhooks behind us may take up to 30 s each, and most
/// clusters have few.
pub const HINT_LIFETIME: Duration = Duration::from_secs(60);

/// What a review promised: these images, seen at this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The images.
    pub revision: ImageSetId,
    /// When the review came in.
    pub admitted: Instant,
}

/// Reviews whose objects have not been seen stored yet. Callers of a webhook are not authenticated, and an
/// admitted object may still be refused further on: nothing is done for a hint until a watch shows its object.
#[derive(Debug, Default)]
pub struct Hints {
    waiting: Mutex<HashMap<DeploymentKey, Hint>>,
}

impl Hints {
    /// Notes a hint; a newer one for the same Deployment replaces the older. False if there is no room, which
    /// costs nothing but the time of admission in the metrics: the watch brings the object all the same.
    pub fn note(&self, key: DeploymentKey, hint: Hint) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= MAX_HINTS && !waiting.contains_key(&key) {
            return false;
        }
        waiting.insert(key, hint);
        true
    }

    /// Takes the hint for a stored object. One that promised other images stays: its object may be next.
    pub fn confirm(&self, key: &DeploymentKey, stored: &ImageSetId) -> Option<Hint> {
        let mut waiting = lock(&self.waiting);
        if waiting.get(key)?.revision != *stored {
            return None;
        }
        waiting.remove(key)
    }

    /// Drops the hints that nothing came of; how many.
    pub fn expire(&self, now: Instant) -> usize {
        let mut waiting = lock(&self.waiting);
        let before = waiting.len();
        waiting.retain(|_, hint| now.duration_since(hint.admitted) < HINT_LIFETIME);
        before - waiting.len()
    }
}

/// A panic in a critical section leaves these maps consistent, so poison is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> DeploymentKey {
        DeploymentKey {
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    fn hint(revision: &str) -> Hint {
        Hint {
            revision: revision.into(),
            admitted: Instant::now(),
        }
    }

    #[tokio::test]
    async fn a_key_waits_once_in_the_order_of_its_first_push() {
        let queue = Queue::default();
        for name in ["a", "b", "a"] {
            queue.push(key(name));
        }
        assert_eq!(queue.take().await, key("a"));
        queue.push(key("a"));
        assert_eq!(queue.take().await, key("b"));
        assert_eq!(queue.take().await, key("a"));
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_is_that_of_the_oldest_key() {
        let queue = Queue::default();
        assert_eq!(queue.age(Instant::now()), Duration::ZERO);
        queue.push(key("a"));
        tokio::time::advance(Duration::from_secs(3)).await;
        queue.push(key("b"));
        assert_eq!(queue.age(Instant::now()), Duration::from_secs(3));
        queue.take().await;
        assert_eq!(queue.age(Instant::now()), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_waiting_taker_wakes_for_a_push() {
        let queue = Queue::default();
        let (taken, ()) = tokio::join!(queue.take(), async { queue.push(key("a")) });
        assert_eq!(taken, key("a"));
    }

    #[tokio::test]
    async fn a_hint_is_confirmed_by_the_images_it_promised_and_no_others() {
        let hints = Hints::default();
        assert!(hints.note(key("a"), hint("v2")));
        assert_eq!(hints.confirm(&key("a"), &"v1".into()), None);
        assert!(hints.confirm(&key("a"), &"v2".into()).is_some());
        assert_eq!(hints.confirm(&key("a"), &"v2".into()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn hints_are_bounded_in_number_and_time() {
        let hints = Hints::default();
        for i in 0..MAX_HINTS {
            assert!(hints.note(key(&i.to_string()), hint("v1")));
        }
        assert!(!hints.note(key("one too many"), hint("v1")));
        assert!(
            hints.note(key("0"), hint("v2")),
            "a newer one for the same Deployment fits"
        );
        tokio::time::advance(HINT_LIFETIME).await;
        assert_eq!(hints.expire(Instant::now()), MAX_HINTS);
        assert!(hints.note(key("room again"), hint("v1")));
    }
}
