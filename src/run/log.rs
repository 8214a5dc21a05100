//! The log, with a limit for each cause.
//!
//! A client that reaches a port can cause a line for each request, and a cluster in trouble repeats its errors. So each cause,
//! which is a place in the source, may log a few lines a second. Further lines are only counted, and the count is logged.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, error, info};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt as lines};

use crate::config::LogFormat;
use headstart_core::limits::{SHOWN_BYTES, printed};

/// The limit for the lines of one cause in a period.
const MOST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);
/// The target of the lines with these counts. They are not counted themselves: there is one for each cause.
const COUNTS: &str = "headstart::log";

/// Starts the log. The future reports the left-out lines once a second, and never ends.
pub(super) fn init_tracing(format: LogFormat) -> impl Future<Output = ()> + Send + use<> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let share = Share::default();
    let lines = lines::layer()
        .with_writer(io::stderr)
        // Colours are for terminals; `kubectl logs` would show their codes.
        .with_ansi(io::stderr().is_terminal());
    let log = tracing_subscriber::registry()
        .with(filter)
        .with(share.clone());
    let started = match format {
        LogFormat::Text => log.with(lines).try_init(),
        LogFormat::Json => log.with(lines.json()).try_init(),
    };
    if let Err(error) = started {
        error!(%error, "the log was started already");
    }
    async move {
        loop {
            tokio::time::sleep(PERIOD).await;
            share.report();
        }
    }
}

/// The number of lines that each cause has logged.
#[derive(Clone, Debug, Default)]
struct Share(Arc<Mutex<HashMap<Identifier, Cause>>>);

#[derive(Debug)]
struct Cause {
    period: Instant,
    /// The lines logged in this period.
    lines: u32,
    /// The lines left out since the last report.
    left_out: u64,
    /// The message of a left-out line.
    words: String,
}

impl Share {
    /// Returns whether this cause may log a line. Otherwise counts the line, and keeps its message.
    fn has_room(&self, cause: Identifier, now: Instant, words: impl FnOnce() -> String) -> bool {
        let mut causes = self.lock();
        // There is one entry for each place in the source that logs.
        let cause = causes.entry(cause).or_insert_with(|| Cause {
            period: now,
            lines: 0,
            left_out: 0,
            words: String::new(),
        });
        if now.saturating_duration_since(cause.period) >= PERIOD {
            cause.period = now;
            cause.lines = 0;
        }
        if cause.lines < MOST {
            cause.lines += 1;
            return true;
        }
        if cause.left_out == 0 {
            cause.words = words();
        }
        cause.left_out += 1;
        false
    }

    /// Returns the number of lines left out since the last call, and a message of each cause.
    fn take_left_out(&self) -> Vec<(u64, String)> {
        let mut causes = self.lock();
        let silenced = causes.values_mut().filter(|cause| cause.left_out > 0);
        silenced
            .map(|cause| (mem::take(&mut cause.left_out), mem::take(&mut cause.words)))
            .collect()
    }

    fn report(&self) {
        for (count, like) in self.take_left_out() {
            info!(target: COUNTS, like, "{count} more like this were not logged");
        }
    }

    /// A panic in a critical section leaves the counts usable, so poison is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Cause>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Share {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let about = event.metadata();
        // Levels below info have no limit: a filter that shows them asks for every line.
        *about.level() > Level::INFO
            || about.target() == COUNTS
            || self.has_room(about.callsite(), Instant::now(), || words(event))
    }
}

/// Returns the message of an event.
fn words(event: &Event<'_>) -> String {
    #[derive(Default)]
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                self.0 = printed(format_args!("{value:?}"), SHOWN_BYTES);
            }
        }
    }
    let mut message = Message::default();
    event.record(&mut message);
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tracing::{debug, warn};

    /// The lines that were written, for the test to read.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(share: &Share, log: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let lines = lines::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false);
        let subscriber = tracing_subscriber::registry()
            .with(share.clone())
            .with(lines);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_cause_has_ten_lines_and_then_a_count() {
        let share = Share::default();
        let lines = logged(&share, || {
            for number in 0..50 {
                info!(number, "a stranger knocked");
                if number < 5 {
                    warn!("a friend called");
                }
                debug!("in detail");
            }
            share.report();
            share.report();
        });
        let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
        assert_eq!(count("number="), 10);
        assert_eq!(count("a friend called"), 5);
        assert_eq!(count("in detail"), 50, "who asks for it gets it");
        assert_eq!(count("not logged"), 1, "{lines:?}");
        assert_eq!(
            count(r#"40 more like this were not logged like="a stranger knocked""#),
            1,
            "{lines:?}"
        );
    }

    struct Place;
    static CAUSE: Place = Place;
    impl tracing::Callsite for Place {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &tracing::Metadata<'_> {
            unreachable!("nobody asks")
        }
    }

    #[test]
    fn the_next_second_has_room_again() {
        let share = Share::default();
        let cause = tracing::callsite::Identifier(&CAUSE);
        let begun = Instant::now();
        let admitted = |at: Instant| {
            let room = |_: &u32| share.has_room(cause.clone(), at, String::new);
            (0..20).filter(room).count()
        };
        assert_eq!(admitted(begun), 10);
        assert_eq!(admitted(begun + PERIOD / 2), 0);
        assert_eq!(admitted(begun + PERIOD), 10);
        assert_eq!(share.take_left_out(), [(40, String::new())]);
        assert!(share.take_left_out().is_empty());
    }
}
