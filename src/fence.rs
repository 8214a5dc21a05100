//! Keeps writes within the lease.

use tokio::sync::watch;
use tokio::time::Instant;

/// The time until which this replica holds the lease. Every write checks it, so that a write that hangs does not outlive the
/// lease.
///
/// A request that the API server accepts later does no harm, because each write is conditional; the fence saves work.
#[derive(Clone, Debug)]
pub(crate) struct Fence(watch::Sender<Option<Instant>>);

impl Default for Fence {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Fence {
    /// Extends the lease.
    pub(crate) fn extend(&self, until: Instant) {
        self.0.send_replace(Some(until));
    }

    /// Records that the lease is lost.
    pub(crate) fn close(&self) {
        self.0.send_replace(None);
    }

    fn until(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Returns whether this replica holds the lease now.
    pub(crate) fn is_open(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this replica no longer holds the lease.
    pub(crate) async fn closed(&self) {
        let mut lease = self.0.subscribe();
        loop {
            let until = *lease.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                // Extended, or given up. Fails only without a sender, and this fence has one.
                _ = lease.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_fence_closes_with_the_lease_and_not_before() {
        let fence = Fence::default();
        assert!(!fence.is_open());
        let started = Instant::now();
        let second = Duration::from_secs(1);
        fence.extend(started + 10 * second);
        let extended = async {
            tokio::time::sleep(5 * second).await;
            fence.extend(started + 15 * second);
        };
        tokio::join!(fence.closed(), extended);
        assert_eq!(started.elapsed(), 15 * second);
        assert!(!fence.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_given_up_ends_the_wait_at_once() {
        let fence = Fence::default();
        let started = Instant::now();
        let second = Duration::from_secs(1);
        fence.extend(started + 10 * second);
        let given_up = async {
            tokio::time::sleep(second).await;
            fence.close();
        };
        tokio::join!(fence.closed(), given_up);
        assert_eq!(started.elapsed(), second);
    }
}
