//! The output for a person while a step takes long: a line that moves on a terminal, else a line now and then.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The time between two lines where lines cannot be rewritten.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

/// Says something to the person, also from within a test, whose `eprintln!` cargo would keep to itself.
pub fn say(line: &str) {
    let mut stderr = std::io::stderr().lock();
    // If standard error is closed, there is no other way to report it.
    let _ = writeln!(stderr, "testbed: {line}");
}

/// One long step.
pub struct Progress {
    what: String,
    started: Instant,
    spoke: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins a step, and names it.
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}");
            let bar = ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(what.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            say(&what);
        }
        Self {
            what,
            started: Instant::now(),
            spoke: None,
            bar,
        }
    }

    /// Shows how far it is.
    pub fn detail(&mut self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(detail.to_owned());
        } else if self.spoke.unwrap_or(self.started).elapsed() >= PLAIN_INTERVAL {
            self.spoke = Some(Instant::now());
            say(&format!(
                "{} [{} s] {detail}",
                self.what,
                self.started.elapsed().as_secs()
            ));
        }
    }

    /// Says that it is done, if it took two seconds or more.
    pub fn done(self) {
        let Self {
            what,
            started,
            spoke: _,
            bar,
        } = self;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        if started.elapsed() >= Duration::from_secs(2) {
            say(&format!(
                "{what}: done in {:.0} s",
                started.elapsed().as_secs_f64()
            ));
        }
    }
}
