//! Shows the liveness probe and the leader election that headstart's own loops turn.
//!
//! A loop turns when it takes an event, and at least every [`TICK`]. A loop that waits for the API server turns too, because
//! headstart cannot end that wait. So a loop that does not turn hangs, and only a restart helps.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The time without a turn after which a loop counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// The interval at which a waiting loop turns. Each turn wakes a thread, so the interval is long.
const TICK: Duration = Duration::from_secs(5);
/// The loop of the driver, which runs on the leader only and turns every second.
pub(crate) const CONTROLLER: &str = "controller";

/// The loops of this process.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeats(Arc<Loops>);

#[derive(Debug)]
struct Loops {
    started: Instant,
    /// Never held across an await: a critical section is a scan of a dozen entries.
    running: Mutex<Vec<Arc<Turns>>>,
}

#[derive(Debug)]
struct Turns {
    name: Cow<'static, str>,
    /// The last turn, in milliseconds after the start of the process.
    last: AtomicU64,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self(Arc::new(Loops {
            started: Instant::now(),
            running: Mutex::default(),
        }))
    }
}

impl Heartbeats {
    /// Begins a loop, which ends when the heartbeat is dropped.
    pub(crate) fn begin(&self, name: impl Into<Cow<'static, str>>) -> Heartbeat {
        let turns = Arc::new(Turns {
            name: name.into(),
            last: AtomicU64::new(self.0.millis(Instant::now())),
        });
        self.0.lock().push(turns.clone());
        Heartbeat {
            loops: self.0.clone(),
            turns,
        }
    }

    /// Returns the names of the loops that have not turned for too long.
    pub(crate) fn stalled(&self, now: Instant) -> Vec<Cow<'static, str>> {
        let running = self.0.lock();
        let stalled = running
            .iter()
            .filter(|turns| self.0.since(turns, now) >= STALLED_AFTER);
        stalled.map(|turns| turns.name.clone()).collect()
    }

    /// Returns the time since the last turn of a loop; `None` if it does not run.
    pub(crate) fn since_turn(&self, name: &str, now: Instant) -> Option<Duration> {
        let running = self.0.lock();
        let turns = running.iter().find(|turns| turns.name == name)?;
        Some(self.0.since(turns, now))
    }
}

impl Loops {
    fn millis(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.started).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    fn since(&self, turns: &Turns, now: Instant) -> Duration {
        let last = turns.last.load(Ordering::Relaxed);
        Duration::from_millis(self.millis(now).saturating_sub(last))
    }

    /// A panic in a critical section leaves the list usable, so poison is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Turns>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running loop.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    loops: Arc<Loops>,
    turns: Arc<Turns>,
}

impl Heartbeat {
    /// Records a turn.
    pub(crate) fn beat(&self) {
        let now = self.loops.millis(Instant::now());
        self.turns.last.store(now, Ordering::Relaxed);
    }

    /// Waits for the loop's next event, and turns meanwhile.
    pub(crate) async fn during<T>(&self, next: impl Future<Output = T>) -> T {
        let mut next = pin!(next);
        loop {
            self.beat();
            tokio::select! {
                biased;
                taken = &mut next => return taken,
                () = sleep(TICK) => {}
            }
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let this = &self.turns;
        self.loops.lock().retain(|turns| !Arc::ptr_eq(turns, this));
    }
}

/// Returns whether a leader may renew its lease: the loop of its controller turned within half of the lease's duration, or
/// does not run. So a leader that hangs loses its lease. The limit is at least 2 s, because the loop turns every second.
pub(crate) fn may_renew(since_turn: Option<Duration>, lease_duration: Duration) -> bool {
    let longest = (lease_duration / 2).max(Duration::from_secs(2));
    since_turn.is_none_or(|since| since < longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_turn_for_half_a_minute_is_stalled() {
        let heartbeats = Heartbeats::default();
        let other = heartbeats.begin("leader election");
        let controller = heartbeats.begin(CONTROLLER);
        controller.beat();
        tokio::time::advance(STALLED_AFTER - MILLISECOND).await;
        other.beat();
        assert!(heartbeats.stalled(Instant::now()).is_empty());
        tokio::time::advance(MILLISECOND).await;
        assert_eq!(heartbeats.stalled(Instant::now()), [CONTROLLER]);
        drop(controller);
        assert!(heartbeats.stalled(Instant::now()).is_empty(), "it ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_waits_turns() {
        let heartbeats = Heartbeats::default();
        let waiting = heartbeats.begin("watch of Pods");
        let started = Instant::now();
        let answer = waiting.during(async {
            sleep(Duration::from_secs(600)).await;
            heartbeats.stalled(Instant::now())
        });
        assert!(answer.await.is_empty());
        assert_eq!(started.elapsed(), Duration::from_secs(600));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_turn_of_a_loop_that_runs_is_known() {
        let heartbeats = Heartbeats::default();
        let since = || heartbeats.since_turn(CONTROLLER, Instant::now());
        assert_eq!(since(), None);
        let controller = heartbeats.begin(CONTROLLER);
        tokio::time::advance(3 * MILLISECOND).await;
        assert_eq!(since(), Some(3 * MILLISECOND));
        drop(controller);
        assert_eq!(since(), None);
    }

    #[test]
    fn a_leader_whose_controller_hangs_does_not_renew() {
        let lease = Duration::from_secs(6);
        assert!(may_renew(None, lease), "its caches are not complete");
        assert!(may_renew(Some(3 * lease / 6 - MILLISECOND), lease));
        assert!(!may_renew(Some(lease / 2), lease));
        let shortest = Duration::from_secs(2);
        assert!(may_renew(Some(shortest - MILLISECOND), shortest));
        assert!(!may_renew(Some(shortest), shortest));
    }
}
