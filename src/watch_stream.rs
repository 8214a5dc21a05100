//! The common parts of all watch streams: the pause after a failure, and a list from time to time.
//!
//! A watch continues from its resourceVersion, and trusts that nothing is missing. But an API server may lose events. And a
//! restored etcd goes back, so that a watch waits silently for a version in the future. So each watch lists anew every half an
//! hour.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStream, stream};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use tokio::time::{Instant, sleep_until};

/// The interval at which a watch lists anew. The first interval is random, so that the lists of the watches do not coincide.
const RELIST_PERIOD: Duration = Duration::from_secs(30 * 60);
/// The pause after the first failure. It doubles after each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(800);
/// The longest pause. client-go waits for 30 s; here each watch is one request, and a replica must be ready soon after the API
/// server is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A watch that has run this long starts with the first pause again. A watch that fails after each list does not.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Spreads pauses, so that watches that begin or fail together do not all return together.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    hasher: DefaultHasher,
    drawn: u32,
}

impl Spread {
    /// Returns the spread of a watch: the same each time for this replica and watch, and another for others.
    pub(crate) fn of(replica: &str, watch: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (replica, watch).hash(&mut hasher);
        Self { hasher, drawn: 0 }
    }

    /// Returns one that is another each time.
    pub(crate) fn random() -> Self {
        let mut hasher = DefaultHasher::new();
        RandomState::new().hash_one(()).hash(&mut hasher);
        Self { hasher, drawn: 0 }
    }

    /// Returns a part of a duration, another each time.
    fn part(&mut self, whole: Duration) -> Duration {
        self.drawn += 1;
        let mut hasher = self.hasher.clone();
        self.drawn.hash(&mut hasher);
        let percent = u32::try_from(hasher.finish() % 100).unwrap_or_default();
        whole * percent / 100
    }
}

/// Returns the items of a watch. The stream never ends: after a failure it continues, and from time to time it lists anew.
pub(crate) fn watch_stream<S, F>(
    begin: F,
    mut spread: Spread,
) -> impl Stream<Item = Result<S::Ok, S::Error>> + Send + use<S, F>
where
    S: TryStream + Send,
    S::Ok: Send,
    S::Error: Send,
    F: Fn() -> S + Send,
{
    let relist = Instant::now() + spread.part(RELIST_PERIOD);
    let start = move || Box::pin(begin().backoff(PauseAfterFailure::new(spread.clone())));
    let state = (start(), start, relist);
    stream::unfold(state, |(mut items, start, mut relist)| async move {
        loop {
            tokio::select! {
                biased;
                () = sleep_until(relist) => {
                    relist = Instant::now() + RELIST_PERIOD;
                    items = start();
                }
                Some(item) = items.next() => return Some((item, (items, start, relist))),
            }
        }
    })
}

/// The pauses of one watch.
struct PauseAfterFailure {
    next: Duration,
    failed: Option<Instant>,
    spread: Spread,
}

impl PauseAfterFailure {
    fn new(spread: Spread) -> Self {
        Self {
            next: FIRST_PAUSE,
            failed: None,
            spread,
        }
    }
}

impl Iterator for PauseAfterFailure {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let before = self.failed.replace(now);
        if before.is_some_and(|before| now.duration_since(before) >= HEALTHY_AFTER) {
            self.next = FIRST_PAUSE;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        Some(pause - self.spread.part(pause / 4))
    }
}

impl Backoff for PauseAfterFailure {
    /// Does nothing. It is called for each item, and an item does not show that the watch is healthy.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_begins_anew_every_half_an_hour() {
        let begun = AtomicU32::new(0);
        let begin = || {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            stream::iter([Ok::<_, ()>(number)]).chain(stream::pending())
        };
        let watch = watch_stream(begin, Spread::random());
        let mut watch = pin!(watch);
        let started = Instant::now();
        assert_eq!(watch.next().await, Some(Ok(0)));
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(watch.next().await, Some(Ok(1)));
        assert!(started.elapsed() <= RELIST_PERIOD, "at a random moment");
        let second = Instant::now();
        assert_eq!(watch.next().await, Some(Ok(2)));
        assert_eq!(second.elapsed(), RELIST_PERIOD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_goes_on_after_pauses_of_at_most_five_seconds() {
        let begin = || {
            let healthy = stream::iter([Ok(())]);
            healthy.chain(stream::repeat(Err::<(), _>("no API server")))
        };
        let watch = watch_stream(begin, Spread::random());
        let mut watch = pin!(watch);
        let mut pauses = Vec::new();
        watch.next().await.unwrap().unwrap();
        watch.next().await.unwrap().unwrap_err();
        for _ in 0..6 {
            let before = Instant::now();
            watch.next().await.unwrap().unwrap_err();
            pauses.push(before.elapsed());
        }
        let expected = [800, 1600, 3200, 5000, 5000, 5000].map(Duration::from_millis);
        for (pause, longest) in pauses.iter().zip(expected) {
            let millisecond = Duration::from_millis(1);
            assert!(*pause <= longest + millisecond, "{pauses:?}");
            assert!(*pause >= longest * 3 / 4, "{pauses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_begin_again_after_a_minute_without_a_failure() {
        let mut pauses = PauseAfterFailure::new(Spread::random());
        for _ in 0..5 {
            pauses.next();
        }
        tokio::time::advance(HEALTHY_AFTER).await;
        assert!(pauses.next().unwrap() <= FIRST_PAUSE);
        assert!(pauses.next().unwrap() > FIRST_PAUSE);
    }

    #[test]
    fn watches_are_spread_the_same_each_time() {
        let parts = |replica, watch| {
            let mut spread = Spread::of(replica, watch);
            [(); 8].map(|()| spread.part(Duration::from_secs(100)))
        };
        assert_eq!(parts("a", "pods"), parts("a", "pods"));
        assert_ne!(parts("a", "pods"), parts("b", "pods"));
        assert_ne!(parts("a", "pods"), parts("a", "nodes"));
        let [first, second, ..] = parts("a", "pods");
        assert_ne!(first, second);
    }
}
