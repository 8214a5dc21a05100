//! A script of requests whose answers must be the same from the simulator's API server and from a real one.
//!
//! The script does no I/O: [`Script::next_exchange`] says what to ask, and [`Script::on_answer`] takes the answer. What the simulator
//! relies on becomes one line of text for each step: the status code, the reason, the message, and of an object its generation,
//! whether its UID and version are new, the owners of its pause, and its end.

mod lines;
mod steps;

use serde_json::{Value, json};

use crate::api_server::http::Request as FakeRequest;
use crate::api_server::{ApiServer, Quota, Selection, Status};
use lines::Seen;
use steps::Step;

/// The namespace that the script creates and uses.
pub const NAMESPACE: &str = "conformance";

/// The lines of a real API server (v1.37).
pub const EXPECTED: &str = include_str!("expected.txt");

/// A request of the script.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// The path, with its query.
    pub path: String,
    /// The body; null if there is none. A patch is a merge patch.
    pub body: Value,
    /// The field manager of the write.
    pub manager: &'static str,
}

/// The action that a step asks of the caller.
#[derive(Clone, Debug)]
pub enum Exchange {
    /// Send a request and pass its answer on.
    Request(Request),
    /// Watch until there is an event of the object `until`, and pass the events on as a list.
    Watch {
        /// The request.
        request: Request,
        /// The name of the object.
        until: &'static str,
    },
    /// Let the namespace have at most so many pods, or any number. The answer is empty.
    Quota(Option<usize>),
}

/// The script, and how far it is.
#[derive(Debug)]
pub struct Script {
    steps: Vec<Step>,
    next: usize,
    seen: Seen,
    lines: Vec<String>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            steps: steps::all(),
            next: 0,
            seen: Seen::default(),
            lines: Vec::new(),
        }
    }
}

impl Script {
    /// Returns what to do next.
    pub fn next_exchange(&self) -> Option<Exchange> {
        let step = self.steps.get(self.next)?;
        let mut exchange = step.exchange.clone();
        if let Exchange::Request(request) | Exchange::Watch { request, .. } = &mut exchange {
            *request = self.seen.fill_in(request);
        }
        Some(exchange)
    }

    /// Takes the answer.
    pub fn on_answer(&mut self, code: u16, body: &Value) {
        if let Some(step) = self.steps.get(self.next) {
            let answer = match &step.exchange {
                Exchange::Request(request) | Exchange::Watch { request, .. } => {
                    self.seen.describe(step, request, code, body)
                }
                Exchange::Quota(_) => "done".to_owned(),
            };
            let answer = format!("{}: {answer}", step.name);
            self.lines.extend(answer.lines().map(str::to_owned));
            self.next += 1;
        }
    }

    /// Returns a line for each answer, and for each event of a watch.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

/// Runs the script against the simulator's API server.
pub fn lines_of_the_fake() -> Vec<String> {
    let mut api = ApiServer::default();
    let mut script = Script::default();
    while let Some(exchange) = script.next_exchange() {
        let (code, body) = match exchange {
            Exchange::Request(request) | Exchange::Watch { request, .. } => {
                let answer = answer_of_the_fake(&mut api, &request);
                answer.unwrap_or_else(|status| (status.code, status.to_json()))
            }
            Exchange::Quota(most) => {
                match most {
                    Some(most) => api.quota.insert(
                        NAMESPACE.to_owned(),
                        Quota {
                            most,
                            ..Quota::default()
                        },
                    ),
                    None => api.quota.remove(NAMESPACE),
                };
                (200, Value::Null)
            }
        };
        script.on_answer(code, &body);
    }
    script.into_lines()
}

fn answer_of_the_fake(api: &mut ApiServer, request: &Request) -> Result<(u16, Value), Status> {
    let path = request.path.as_str();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let selection = Selection::read(path, query).ok_or_else(Status::no_such_resource)?;
    if selection.is_watch() {
        let version = selection.parameter("resourceVersion");
        let version = version.and_then(|version| version.parse().ok());
        let from = api.position_after(selection.key.kind, version.unwrap_or_default())?;
        return Ok((200, json!(api.events_from(from, &selection))));
    }
    Ok(api.handle(&FakeRequest {
        method: request.method.to_owned(),
        selection,
        body: request.body.clone(),
        manager: request.manager.to_owned(),
    }))
}

/// Returns how two runs differ, line by line.
pub fn differences(expected: &[String], found: &[String]) -> Vec<String> {
    let count = expected.len().max(found.len());
    let line = |lines: &[String], index: usize| {
        lines
            .get(index)
            .cloned()
            .unwrap_or_else(|| "(nothing)".to_owned())
    };
    let pairs = (0..count).map(|index| (line(expected, index), line(found, index)));
    let different = pairs.filter(|(expected, found)| expected != found);
    different
        .map(|(expected, found)| format!("- {expected}\n+ {found}"))
        .collect()
}

/// Returns the lines of [`EXPECTED`].
pub fn expected() -> Vec<String> {
    EXPECTED.lines().map(str::to_owned).collect()
}
