//! The API server of the simulator behind a `kube::Client`: requests take their time, get lost, are refused and fail, and watches
//! end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use headstart::testing::{ApiServer as ApiService, Clock};
use headstart_sim::api_server::http::Request as ApiRequest;
use headstart_sim::api_server::{ApiServer, Kind, Selection, Status};
use headstart_sim::random::{Draws, Random};
use http::{Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tower::util::BoxService;

use crate::link::Link;
use crate::options::{Faults, Options};
use crate::watch_body;

/// The start of simulations by the wall clock, in seconds.
const EPOCH: i64 = 1_800_000_000;

/// The API server.
#[derive(Clone)]
pub(crate) struct Server(Arc<Shared>);

struct Shared {
    started: Instant,
    /// Never held across an await.
    state: Mutex<State>,
    /// The length of the log of each kind.
    changed: [watch::Sender<usize>; Kind::ALL.len()],
    /// Cloned for each running task that is not headstart's.
    tasks: Arc<()>,
    /// Replaced when all watches of a kind are cut.
    cuts: [watch::Sender<()>; Kind::ALL.len()],
}

/// The stored objects, the faults, and a record of the requests.
pub(crate) struct State {
    pub(crate) api: ApiServer,
    pub(crate) draws: Draws,
    faults: Faults,
    /// Lists are streamed where a watch asks for that.
    pub(crate) streams_lists: bool,
    /// The images that were pulled, by the UID of the node.
    pub(crate) pulled: BTreeSet<(String, String)>,
    /// No request is answered before.
    down_until: Instant,
    /// The number of times that each fault or event has happened.
    pub(crate) coverage: BTreeMap<String, u64>,
    trace: Vec<String>,
}

/// The fate of a request.
#[derive(Clone, Debug)]
enum Fate {
    Done,
    /// The request does not arrive.
    Lost,
    /// The request is done, and its answer does not arrive.
    AnswerLost,
    Refused(Status, u64),
}

impl State {
    /// Counts something that has happened.
    pub(crate) fn count(&mut self, what: &str) {
        *self.coverage.entry(what.to_owned()).or_default() += 1;
    }

    /// Writes down what has happened.
    pub(crate) fn note(&mut self, text: &str) {
        let (at, _) = self.api.now;
        self.trace.push(format!("{at:>8} {text}"));
    }

    fn fate(&mut self, random: &mut Random, path: &str) -> Fate {
        let Faults {
            lost,
            refused,
            late: _,
            watches: _,
        } = self.faults;
        if random.per_mille(lost) {
            let lost = random.per_mille(500);
            self.count(if lost { "request lost" } else { "answer lost" });
            return if lost { Fate::Lost } else { Fate::AnswerLost };
        }
        if random.per_mille(refused) {
            let conflict = Status {
                code: 409,
                reason: "Conflict",
                message: format!("{path}: the object has been modified"),
            };
            let after = random.within(1..=5);
            let (status, after) = match random.below(4) {
                0 => (Status::too_many_requests(), after),
                1 => (Status::internal(), 0),
                2 => (conflict, 0),
                _ => (Status::unavailable(), 0),
            };
            self.count(&status.code.to_string());
            return Fate::Refused(status, after);
        }
        Fate::Done
    }
}

impl Server {
    /// Returns an API server that stores nothing.
    pub(crate) fn new(options: &Options) -> Self {
        let started = Instant::now();
        let state = State {
            api: ApiServer::default(),
            draws: Draws::new(options.seed),
            faults: options.faults,
            streams_lists: options.streams_lists,
            pulled: BTreeSet::new(),
            down_until: started,
            coverage: BTreeMap::new(),
            trace: Vec::new(),
        };
        Self(Arc::new(Shared {
            started,
            state: Mutex::new(state),
            tasks: Arc::default(),
            changed: [(); Kind::ALL.len()].map(|()| watch::Sender::new(0)),
            cuts: [(); Kind::ALL.len()].map(|()| watch::Sender::new(())),
        }))
    }

    /// Starts a task that is not headstart's.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let counted = self.0.tasks.clone();
        tokio::spawn(async move {
            let _counted = counted;
            task.await
        })
    }

    /// Returns how many tasks of headstart run.
    pub(crate) fn tasks_of_headstart(&self) -> usize {
        let others = Arc::strong_count(&self.0.tasks) - 1;
        Handle::current().metrics().num_alive_tasks() - others
    }

    /// Returns the wall clock.
    pub(crate) fn clock(&self) -> Clock {
        let started = self.0.started;
        Clock::from_fn(move || {
            let epoch = time::OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(EPOCH);
            epoch + started.elapsed()
        })
    }

    /// Looks at the state, or changes it. Watches bring what has changed.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state);
        for (log, changed) in state.api.log.iter().zip(&self.0.changed) {
            let known = *changed.borrow();
            if known != log.len() {
                changed.send_replace(log.len());
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state.lock().unwrap();
        let elapsed = self.0.started.elapsed();
        let wall = SignedDuration::try_from(elapsed).unwrap();
        let wall = Timestamp::from_second(EPOCH).unwrap() + wall;
        state.api.now = (u64::try_from(elapsed.as_millis()).unwrap(), wall);
        state
    }

    /// Returns what tells of changes of a kind.
    pub(crate) fn changes(&self, kind: Kind) -> watch::Receiver<usize> {
        self.0.changed[kind.index()].subscribe()
    }

    /// Returns what tells that the watches of a kind are cut.
    pub(crate) fn cuts(&self, kind: Kind) -> watch::Receiver<()> {
        self.0.cuts[kind.index()].subscribe()
    }

    /// Cuts all watches of a kind.
    pub(crate) fn cut(&self, kind: Kind) {
        self.0.cuts[kind.index()].send_replace(());
    }

    /// Answers nothing for a while.
    pub(crate) fn go_down(&self, duration: Duration) {
        self.with(|state| state.down_until = Instant::now() + duration);
        Kind::ALL.into_iter().for_each(|kind| self.cut(kind));
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.with(|state| {
            state.note("all faults end");
            state.faults = Faults::default();
            state.down_until = Instant::now();
        });
    }

    /// Returns what has happened, line by line.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    /// Returns the API server as a process reaches it.
    pub(crate) fn reached_by(&self, process: &str, link: &Link) -> ApiService {
        let (server, process, link) = (self.clone(), process.to_owned(), link.clone());
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (server, process, link) = (server.clone(), process.clone(), link.clone());
            async move {
                let arrives = server.clone().arrive(process, link.clone(), request);
                // A request that its sender gives up may still arrive.
                let answer = server.spawn(arrives).await.unwrap();
                link.wait_until_up().await;
                answer
            }
        });
        BoxService::new(service.map_err(Into::into))
    }

    async fn arrive(
        self,
        process: String,
        link: Link,
        request: Request<kube::client::Body>,
    ) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        let Some(selection) = Selection::read(path, query) else {
            panic!(
                "{process} asks for {}, which no API server knows",
                parts.uri
            );
        };
        let watch = if selection.is_watch() { " watch" } else { "" };
        let what = format!("{process} {} {path}{watch}", parts.method);
        let (mut random, late) = self.with(|state| (state.draws.of(&[&what]), state.faults.late));
        // Drawn before: those that wait are woken in any order.
        if !link.wait_until_up_or_dead().await {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let delay = |random: &mut Random| {
            let most = if random.per_mille(late) { 40_000 } else { 50 };
            Duration::from_millis(random.within(1..=most))
        };
        sleep(delay(&mut random)).await;
        let fate = self.with(|state| {
            let down = Instant::now() < state.down_until;
            let fate = if down {
                Fate::Lost
            } else {
                state.fate(&mut random, path)
            };
            state.note(&format!("{what}: {fate:?}"));
            fate
        });
        let answer = match &fate {
            Fate::Lost => return lost(&mut random).await,
            Fate::Refused(status, after) => refusal(status, *after),
            _ if selection.is_watch() => watch_body::answer(&self, &what, &link, selection),
            Fate::Done | Fate::AnswerLost => {
                let request = ApiRequest {
                    method: parts.method.to_string(),
                    selection,
                    body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                    manager: "headstart".to_owned(),
                };
                let (code, answer) = self.with(|state| {
                    let answer = state.api.handle(&request);
                    let name = request.body["metadata"]["name"].as_str();
                    state.note(&format!(
                        "{what} {}: {}",
                        name.unwrap_or_default(),
                        answer.0
                    ));
                    answer
                });
                response(code, Body::from(answer.to_string()))
            }
        };
        if matches!(fate, Fate::AnswerLost) {
            return lost(&mut random).await;
        }
        sleep(delay(&mut random)).await;
        Ok(answer)
    }

    /// Draws how a watch ends, if the faults end it: when, and how.
    pub(crate) fn watch_end(&self, random: &mut Random) -> Option<(Instant, &'static str)> {
        let cases = self.with(|state| state.faults.watches);
        let ends = random.per_mille(cases);
        let end = Instant::now() + Duration::from_millis(random.within(1..=60_000));
        ends.then(|| (end, random.pick(&watch_body::ENDS)))
    }
}

/// The connection is reset, or nothing comes.
async fn lost<T>(random: &mut Random) -> io::Result<T> {
    if random.per_mille(300) {
        std::future::pending::<()>().await;
    }
    sleep(Duration::from_millis(random.within(1..=5000))).await;
    Err(io::ErrorKind::ConnectionReset.into())
}

fn refusal(status: &Status, retry_after: u64) -> Response<Body> {
    let mut value = status.to_json();
    if retry_after > 0 {
        value["details"] = json!({ "retryAfterSeconds": retry_after });
    }
    response(status.code, Body::from(value.to_string()))
}

/// Returns a response with this code.
pub(crate) fn response(code: u16, body: Body) -> Response<Body> {
    Response::builder().status(code).body(body).unwrap()
}
