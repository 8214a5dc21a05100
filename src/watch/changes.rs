//! The changes that the driver has not taken yet, each at most once.
//!
//! Changes name objects and carry no state. The driver reads the newest state from the store, so the latest wins. Each names a
//! stored object, so the size of the store bounds the queue.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headstart_core::store::Change;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Changes, in the order in which they came. Quotas come first: they are few, and what they limit follows. Deployments come before nodes, and nodes before pods: the pods of a deleted node
/// or of a cancelled prefetch need no attention.
#[derive(Debug, Default)]
pub(crate) struct ChangeQueue {
    /// Never held across an await: every critical section is a few map operations.
    waiting: Mutex<Waiting>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    quotas: VecDeque<(Change, Instant)>,
    deployments: VecDeque<(Change, Instant)>,
    nodes: VecDeque<(Change, Instant)>,
    pods: VecDeque<(Change, Instant)>,
    queued: BTreeSet<Change>,
}

impl Waiting {
    fn queue_of(&mut self, change: &Change) -> &mut VecDeque<(Change, Instant)> {
        match change {
            Change::Deployment(_) | Change::Rollout(_) => &mut self.deployments,
            Change::Node(_) | Change::NodeImages(_) => &mut self.nodes,
            Change::Pod(_) => &mut self.pods,
            Change::Quota(_) => &mut self.quotas,
        }
    }

    fn pop(&mut self) -> Option<Change> {
        let queues = [
            &mut self.quotas,
            &mut self.deployments,
            &mut self.nodes,
            &mut self.pods,
        ];
        let (change, _) = queues.into_iter().find_map(VecDeque::pop_front)?;
        self.queued.remove(&change);
        Some(change)
    }
}

impl ChangeQueue {
    /// Adds a change unless it is waiting already. Never waits.
    pub(crate) fn push(&self, change: Change) {
        {
            let mut waiting = self.lock();
            if !waiting.queued.insert(change.clone()) {
                return;
            }
            let queue = waiting.queue_of(&change);
            queue.push_back((change, Instant::now()));
        }
        self.pushed.notify_one();
    }

    /// Waits for the next change and takes it. For a single taker; cancelling loses nothing.
    pub(crate) async fn take(&self) -> Change {
        loop {
            if let Some(change) = self.try_take() {
                return change;
            }
            self.pushed.notified().await;
        }
    }

    fn try_take(&self) -> Option<Change> {
        self.lock().pop()
    }

    /// Forgets all changes.
    pub(crate) fn clear(&self) {
        *self.lock() = Waiting::default();
    }

    /// Returns the number of waiting changes of Deployments, and the age of the oldest.
    pub(crate) fn deployments(&self, now: Instant) -> (usize, Duration) {
        let waiting = self.lock();
        let oldest = waiting.deployments.front();
        let age = oldest.map_or(Duration::ZERO, |(_, since)| now.duration_since(*since));
        (waiting.deployments.len(), age)
    }

    /// A panic in a critical section leaves the queues usable, so poison is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headstart_core::workload::DeploymentKey;

    fn deployment(name: &str) -> Change {
        Change::Deployment(DeploymentKey {
            namespace: "shop".into(),
            name: name.into(),
        })
    }

    #[tokio::test]
    async fn a_change_waits_once_in_the_order_of_its_first_push() {
        let queue = ChangeQueue::default();
        queue.push(Change::Node("n1".into()));
        for name in ["a", "b", "a"] {
            queue.push(deployment(name));
        }
        assert_eq!(queue.take().await, deployment("a"));
        queue.push(deployment("a"));
        assert_eq!(queue.take().await, deployment("b"));
        assert_eq!(queue.take().await, deployment("a"));
        assert_eq!(queue.take().await, Change::Node("n1".into()));
        assert_eq!(queue.try_take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_is_that_of_the_oldest_deployment() {
        let queue = ChangeQueue::default();
        assert_eq!(queue.deployments(Instant::now()), (0, Duration::ZERO));
        queue.push(deployment("a"));
        tokio::time::advance(Duration::from_secs(3)).await;
        queue.push(deployment("b"));
        assert_eq!(
            queue.deployments(Instant::now()),
            (2, Duration::from_secs(3))
        );
        queue.take().await;
        assert_eq!(queue.deployments(Instant::now()), (1, Duration::ZERO));
    }

    #[tokio::test]
    async fn a_waiting_taker_wakes_for_a_push() {
        let queue = ChangeQueue::default();
        let (taken, ()) = tokio::join!(queue.take(), async { queue.push(deployment("a")) });
        assert_eq!(taken, deployment("a"));
    }
}
