//! The replicas of headstart: processes that crash, are replaced, and lose their connection.

use std::time::Duration;

use clap::Parser;
use headstart::Config;
use headstart::testing::ReplicaWithoutServers;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::link::Link;
use crate::options::{Action, Options};
use crate::server::Server;

/// The longest time for a replica to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The longest time until the tasks end of a process that crashed or was stopped during faults.
const TASKS_LIMIT: Duration = Duration::from_secs(600);
/// The tasks that a replica keeps until the process ends: six watches, and the client's queue of requests.
const TASKS_FOR_LIFE: usize = 7;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

/// A process, and its connection.
struct Process {
    name: String,
    link: Link,
    replica: ReplicaWithoutServers,
}

/// The replicas of a seed.
pub(crate) struct Replicas {
    server: Server,
    flags: Vec<String>,
    running: Vec<Option<Process>>,
    /// The number of processes so far.
    started: usize,
    /// The restarts to come.
    restarts: Vec<(Instant, usize)>,
}

impl Replicas {
    /// Starts the replicas.
    pub(crate) fn start(server: &Server, options: &Options) -> Self {
        let mut replicas = Self {
            server: server.clone(),
            flags: options.flags.clone(),
            running: Vec::new(),
            started: 0,
            restarts: Vec::new(),
        };
        for _ in 0..options.replicas {
            let process = replicas.process();
            replicas.running.push(Some(process));
        }
        replicas
    }

    fn process(&mut self) -> Process {
        let name = format!("headstart-{}", self.started);
        self.started += 1;
        self.server
            .with(|state| state.note(&format!("{name} starts")));
        let link = Link::default();
        let flags = self.flags.iter().map(String::as_str);
        let flags = ["headstart"].into_iter().chain(flags);
        let mut config = Arguments::parse_from(flags).config;
        config.installation.pod_name = Some(name.clone());
        let api_server = self.server.reached_by(&name, &link);
        let replica = ReplicaWithoutServers::start(&config, api_server, self.server.clock());
        Process {
            name,
            link,
            replica: replica.unwrap(),
        }
    }

    /// Performs an action on a process. Ignores other actions.
    pub(crate) fn act(&mut self, action: &Action) {
        match *action {
            Action::Crash(n, pause) => {
                if let Some(process) = self.running[n].take() {
                    self.count(&process, "crash");
                    process.link.kill();
                    // Its connection is dead: the tasks that still run reach no API server.
                    self.server.spawn(process.replica.stop());
                    self.restarts
                        .push((Instant::now() + Duration::from_millis(pause), n));
                    self.restarts.sort_unstable();
                }
            }
            Action::Replace(n) => {
                if let Some(process) = self.running[n].take() {
                    self.count(&process, "replaced");
                    self.server.spawn(process.replica.stop());
                    let process = self.process();
                    self.running[n] = Some(process);
                }
            }
            Action::Cut(n, pause) => {
                if let Some(process) = &self.running[n] {
                    self.count(process, "connection cut");
                    process.link.set_cut(true);
                    let link = process.link.clone();
                    self.server.spawn(async move {
                        sleep(Duration::from_millis(pause)).await;
                        link.set_cut(false);
                    });
                }
            }
            _ => {}
        }
    }

    fn count(&self, process: &Process, what: &str) {
        self.server.with(|state| {
            state.count(what);
            state.note(&format!("{}: {what}", process.name));
        });
    }

    /// Starts the processes whose time comes, until there is none any more.
    pub(crate) async fn restart(&mut self) {
        while let Some((at, n)) = self.restarts.first().copied() {
            sleep_until(at).await;
            self.restarts.remove(0);
            let process = self.process();
            self.running[n] = Some(process);
        }
    }

    /// Returns what is wrong with the processes: an essential task has ended, or something is in flight.
    pub(crate) fn faults(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut leaders = 0;
        for process in self.running.iter_mut().flatten() {
            let name = &process.name;
            faults.extend(
                process
                    .replica
                    .failure()
                    .map(|error| format!("{name}: {error}")),
            );
            let metrics = process.replica.metrics();
            let gauge = |wanted: &str| {
                let value = metrics.lines().find_map(|line| line.strip_prefix(wanted));
                let value = value.unwrap_or_else(|| panic!("no metric {wanted} in {metrics}"));
                value.trim().parse::<f64>().unwrap()
            };
            if gauge("headstart_leader ") == 0.0 {
                continue;
            }
            leaders += 1;
            for wanted in [
                "creates_in_flight",
                "queue_nodes",
                "pulling_nodes",
                "held_deployments",
            ] {
                let value = gauge(&format!("headstart_{wanted} "));
                if value > 0.0 {
                    faults.push(format!("{name}: headstart_{wanted} is {value}"));
                }
            }
        }
        if leaders != 1 {
            faults.push(format!("{leaders} replicas lead"));
        }
        faults
    }

    /// Stops all processes. Returns what is wrong with that.
    pub(crate) async fn end(mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for process in std::mem::take(&mut self.running).into_iter().flatten() {
            let stops = process.replica.stop();
            if timeout(STOP_LIMIT, stops).await.is_err() {
                faults.push(format!(
                    "{} did not stop within {STOP_LIMIT:?}",
                    process.name
                ));
            }
        }
        let left = TASKS_FOR_LIFE * self.started;
        let begun = Instant::now();
        while self.server.tasks_of_headstart() != left {
            if begun.elapsed() > TASKS_LIMIT {
                let tasks = self.server.tasks_of_headstart();
                faults.push(format!("{tasks} tasks run after the end, and not {left}"));
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        faults
    }
}
