//! headstart's whole control loop in virtual time: watches, election and driver, around a client whose API server is the
//! simulator's.
//!
//! A seed draws a small cluster, users, and faults of requests, watches and processes. When all faults have ended, everything must come
//! to its end. A seed does the same each time, unless two tasks that wait for one `tokio::sync::watch` are woken at the same moment:
//! their order is random. About one seed in 25 is affected.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod checks;
mod cluster;
mod link;
mod options;
mod replicas;
mod server;
mod users;
mod watch_body;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{Instant, sleep, sleep_until};

use options::{Action, Options};
use replicas::Replicas;
use server::Server;
use users::Users;

/// The number of seeds in every run, and in the long form.
const SEEDS: (u64, u64) = (200, 5000);
/// The time after the end of all faults in which everything must be done. A watch that is silent is noticed after 295 s.
const SETTLE: Duration = Duration::from_secs(15 * 60);
/// The time after that in which no pod may be created.
const QUIET: Duration = Duration::from_secs(30);
/// The time between two checks whether everything is done.
const POLL: Duration = Duration::from_secs(2);
/// The number of times that each of these must have happened in all seeds.
const OFTEN_ENOUGH: u64 = 10;
/// The faults, and the events of a cluster, that must have happened.
const EXPECTED: [&str; 20] = [
    "request lost",
    "answer lost",
    "429",
    "500",
    "409",
    "503",
    "watch ended",
    "watch reset",
    "watch expired",
    "watch silent",
    "410",
    "crash",
    "replaced",
    "connection cut",
    "API server down",
    "watches cut",
    "held",
    "pod evicted",
    "Deployment deleted",
    "node deleted",
];

/// The result of a seed.
#[derive(Debug)]
struct Run {
    seed: u64,
    /// The conditions that do not hold in the end.
    faults: Vec<String>,
    options: Options,
    /// The number of times that each fault or event has happened.
    coverage: BTreeMap<String, u64>,
    trace: Vec<String>,
}

/// Runs a seed.
fn run(seed: u64) -> Run {
    let options = Options::draw(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let (faults, server) = runtime.block_on(simulate(&options));
    Run {
        seed,
        faults,
        options,
        coverage: server.with(|state| state.coverage.clone()),
        trace: server.trace(),
    }
}

async fn simulate(options: &Options) -> (Vec<String>, Server) {
    let server = Server::new(options);
    let mut users = Users::begin(&server, options);
    server.spawn(cluster::run(server.clone(), options.clone()));
    let mut replicas = Replicas::start(&server, options);
    let begun = Instant::now();
    for (at, action) in &options.actions {
        let at = begun + Duration::from_millis(*at);
        tokio::select! {
            () = async { replicas.restart().await; std::future::pending().await } => {}
            () = sleep_until(at) => {}
        }
        users.act(action);
        replicas.act(action);
        act(&server, action);
    }
    let faults_end = begun + Duration::from_millis(options.faults_end);
    sleep_until(faults_end).await;
    server.heal();
    replicas.restart().await;
    let what = settle(&server, &mut replicas).await;
    if !what.is_empty() {
        return (what, server);
    }
    (replicas.end().await, server)
}

fn act(server: &Server, action: &Action) {
    match *action {
        Action::ApiServerDown(duration) => {
            server.with(|state| state.count("API server down"));
            server.go_down(Duration::from_millis(duration));
        }
        Action::CutWatches(kind, compact) => {
            server.with(|state| {
                state.count("watches cut");
                if compact {
                    state.api.compact();
                }
            });
            server.cut(kind);
        }
        _ => {}
    }
}

/// Waits until everything is done. Returns the conditions that do not hold.
async fn settle(server: &Server, replicas: &mut Replicas) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let mut what = server.with(|state| checks::unfinished(state));
        if what.is_empty() {
            what = replicas.faults();
        }
        if what.is_empty() {
            break;
        }
        if begun.elapsed() >= SETTLE {
            return what;
        }
        sleep(POLL).await;
    }
    let created = || server.with(|state| checks::created(state));
    let before = created();
    sleep(QUIET).await;
    let mut what = server.with(|state| checks::unfinished(state));
    what.extend(replicas.faults());
    what.extend(server.with(|state| checks::duplicates(state)));
    let after = created();
    if after > before {
        what.push(format!(
            "{} pods were created when all was done",
            after - before
        ));
    }
    what
}

/// Writes the steps of a seed to a file. Returns the failed conditions, and the command that repeats the seed.
fn report(run: &Run) -> String {
    let Run {
        seed,
        faults,
        options,
        coverage: _,
        trace,
    } = run;
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("../driver");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join(format!("{seed}.txt"));
    let (faults, trace) = (faults.join("\n"), trace.join("\n"));
    std::fs::write(&file, format!("{faults}\n\n{options:#?}\n\n{trace}\n")).unwrap();
    format!(
        "{faults}\nHEADSTART_SEED={seed} cargo test --test driver replay -- --nocapture    ({})",
        file.display()
    )
}

fn is_long() -> bool {
    std::env::var("HEADSTART_LONG").is_ok_and(|long| long == "1")
}

#[test]
fn replay() {
    let Ok(seed) = std::env::var("HEADSTART_SEED") else {
        println!("HEADSTART_SEED names the seed to replay; without it nothing is replayed");
        return;
    };
    let seed = seed.parse().expect("HEADSTART_SEED is a number");
    let run = run(seed);
    let report = report(&run);
    assert!(run.faults.is_empty(), "{report}");
    println!("{report}");
}

#[test]
fn everything_comes_to_its_end_in_all_seeds() {
    let seeds = if is_long() { SEEDS.1 } else { SEEDS.0 };
    let begun = std::time::Instant::now();
    let next = AtomicU64::new(0);
    let found = Mutex::new((BTreeMap::<String, u64>::new(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let result = run(seed);
                    let mut found = found.lock().unwrap();
                    for (what, count) in &result.coverage {
                        *found.0.entry(what.clone()).or_default() += count;
                    }
                    if !result.faults.is_empty() {
                        found.1.push(report(&result));
                    }
                }
            });
        }
    });
    let (coverage, failures) = found.into_inner().unwrap();
    println!(
        "{seeds} seeds in {:.1} s: {coverage:?}",
        begun.elapsed().as_secs_f64()
    );
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds fail\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    let rare = |what: &&&str| coverage.get(**what).copied().unwrap_or(0) < OFTEN_ENOUGH;
    let rare: Vec<&&str> = EXPECTED.iter().filter(rare).collect();
    assert!(rare.is_empty(), "too rare: {rare:?}");
}

/// A real clock or another source of chance would make all seeds differ.
#[test]
fn nearly_all_seeds_do_the_same_each_time() {
    let differs = |seed: &u64| {
        let [first, second] = [run(*seed), run(*seed)].map(|run| run.trace);
        assert!(first.len() > 100, "seed {seed} does little");
        let steps = first.iter().zip(&second);
        let step = steps.into_iter().find(|(first, second)| first != second);
        step.inspect(|step| println!("seed {seed} differs: {step:?}"))
            .is_some()
    };
    let differing = (0..5).filter(differs).count();
    assert!(differing <= 2, "{differing} of 5 seeds differ");
}
