//! The answer to a watch: events as they come, until the watch ends.

use std::io;
use std::time::Duration;

use axum::body::Body;
use futures::stream;
use headstart_sim::api_server::{Selection, Status};
use headstart_sim::random::Random;
use http::Response;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::link::Link;
use crate::server::{Server, response};

/// The ways in which a fault ends a watch, drawn with equal probability. A silent watch is rare: the client notices it only after
/// 295 s, which takes this test the most time.
pub(crate) const ENDS: [&str; 7] = [
    "ended", "ended", "reset", "reset", "expired", "expired", "silent",
];

/// A watch that is answered.
struct Watching {
    server: Server,
    link: Link,
    wanted: Selection,
    random: Random,
    /// The first events.
    first: Vec<Value>,
    /// The next position in the log; `None` if it is compacted.
    position: Option<usize>,
    changes: watch::Receiver<usize>,
    cuts: watch::Receiver<()>,
    /// The time at which the API server ends it.
    until: Instant,
    /// The time at which a fault ends it, and the way.
    fault: Option<(Instant, &'static str)>,
}

/// Answers a watch.
pub(crate) fn answer(
    server: &Server,
    what: &str,
    link: &Link,
    wanted: Selection,
) -> Response<Body> {
    let number = |name: &str| {
        let value = wanted.parameter(name).and_then(|value| value.parse().ok());
        value.unwrap_or(0)
    };
    let (version, seconds) = (number("resourceVersion"), number("timeoutSeconds"));
    let kind = wanted.key.kind;
    let mut changes = server.changes(kind);
    let (first, position, random) = server.with(|state| {
        let random = state.draws.of(&["watch", what]);
        if version == 0 {
            let bookmark = wanted.parameter("sendInitialEvents") == Some("true");
            let bookmark = bookmark && state.streams_lists;
            let first = state.api.initial_events(&wanted, bookmark);
            return (first, Some(state.api.log[kind.index()].len()), random);
        }
        match state.api.position_after(kind, version) {
            Ok(position) => (Vec::new(), Some(position), random),
            Err(status) => {
                state.count("410");
                (vec![error_event(&status)], None, random)
            }
        }
    });
    changes.mark_changed();
    let mut watching = Watching {
        link: link.clone(),
        random,
        first,
        position,
        changes,
        cuts: server.cuts(kind),
        until: Instant::now() + Duration::from_secs(seconds),
        fault: None,
        wanted,
        server: server.clone(),
    };
    watching.fault = server.watch_end(&mut watching.random);
    let events = stream::unfold(Some(watching), |watching| async {
        let mut watching = watching?;
        let chunk = watching.next().await?;
        let chunk = chunk.map(|events| lines(&events));
        let goes_on = chunk.is_ok() && watching.position.is_some();
        Some((chunk, goes_on.then_some(watching)))
    });
    response(200, Body::from_stream(events))
}

impl Watching {
    /// Waits for the next events; `None` at the end.
    async fn next(&mut self) -> Option<io::Result<Vec<Value>>> {
        if !self.first.is_empty() {
            return Some(Ok(std::mem::take(&mut self.first)));
        }
        loop {
            let (fault, how) = self.fault.unwrap_or((self.until, ENDS[0]));
            tokio::select! {
                biased;
                _ = self.cuts.changed() => return Some(Err(io::ErrorKind::ConnectionReset.into())),
                () = sleep_until(fault) => return self.fail(how).await,
                () = sleep_until(self.until) => return None,
                _ = self.changes.changed() => {}
            }
            let events = self.collect().await;
            self.link.wait_until_up().await;
            if !events.is_empty() {
                return Some(Ok(events));
            }
        }
    }

    async fn collect(&mut self) -> Vec<Value> {
        let most = if self.random.per_mille(20) { 5000 } else { 100 };
        sleep(Duration::from_millis(self.random.within(1..=most))).await;
        let (wanted, from) = (&self.wanted, self.position.unwrap_or(0));
        let (events, position) = self.server.with(|state| {
            let position = state.api.log[wanted.key.kind.index()].len();
            (state.api.events_from(from, wanted), position)
        });
        self.position = Some(position);
        events
    }

    /// Ends by a fault.
    async fn fail(&mut self, how: &str) -> Option<io::Result<Vec<Value>>> {
        let kind = self.wanted.key.kind.resource();
        self.server.with(|state| {
            state.count(&format!("watch {}", how));
            state.note(&format!("a watch of {kind} is {}", how));
        });
        match how {
            "ended" => None,
            "reset" => Some(Err(io::ErrorKind::ConnectionReset.into())),
            "expired" => {
                self.position = None;
                let status = self.server.with(|state| {
                    state.api.compact();
                    Status::expired(1, state.api.revision())
                });
                Some(Ok(vec![error_event(&status)]))
            }
            _ => std::future::pending().await,
        }
    }
}

fn error_event(status: &Status) -> Value {
    json!({"type": "ERROR", "object": status.to_json()})
}

fn lines(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}
