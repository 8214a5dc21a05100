//! Seeds by the thousand, the mutations that they must find, and the cases that were found.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use headstart_sim::mutation::Mutation;
use headstart_sim::{Failure, Violation, explain, run};

/// Half of the time of a simulation goes into memory for JSON.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How many seeds every run takes.
const SEEDS: u64 = 10_000;
/// How many seeds the long form takes.
const LONG_SEEDS: u64 = 1_000_000;
/// How many seeds of the day every run takes besides.
const SEEDS_OF_THE_DAY: u64 = 500;
/// Within how many seeds a mutation must be found.
const SEEDS_PER_MUTATION: u64 = 1000;
/// How often each kind of thing must have happened.
const OFTEN_ENOUGH: u64 = 10;

/// These tests take all processors, one after another.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> std::sync::MutexGuard<'static, ()> {
    MACHINE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn is_long() -> bool {
    std::env::var("HEADSTART_LONG").is_ok_and(|long| long == "1")
}

fn threads() -> usize {
    thread::available_parallelism().map_or(2, usize::from)
}

/// What many seeds have shown.
#[derive(Default)]
struct Found {
    ran: u64,
    coverage: BTreeMap<String, u64>,
    failures: Vec<(u64, Violation)>,
}

/// Runs seeds on all processors until one fails.
fn run_seeds(seeds: &[u64], mutation: Option<Mutation>) -> Found {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Found::default());
    thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let index = usize::try_from(index).unwrap();
                    let failed = !found.lock().unwrap().failures.is_empty();
                    if failed || index >= seeds.len() {
                        return;
                    }
                    let seed = seeds[index];
                    let result = run(seed, mutation);
                    let mut found = found.lock().unwrap();
                    found.ran += 1;
                    match result {
                        Ok(run) => {
                            for (what, count) in run.coverage {
                                *found.coverage.entry(what).or_default() += count;
                            }
                        }
                        Err(violation) => found.failures.push((seed, violation)),
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Writes down a failure, and returns what to say about it.
fn report(failure: &Failure) -> String {
    let Failure {
        seed,
        violation,
        options,
        actions,
        drawn,
        trace,
    } = failure;
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("../sim");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join(format!("{seed:x}.txt"));
    let actions_text: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
    let text = format!(
        "{violation}\n\n{options:#?}\n\n{}\n\n{}\n",
        actions_text.join("\n"),
        trace.join("\n")
    );
    std::fs::write(&file, text).unwrap();
    format!(
        "{violation}\nHEADSTART_SEED={seed:#x} cargo test -p headstart-sim replay -- --nocapture    (shrunk: {} of {drawn} actions, {} nodes; {})\n{}",
        actions.len(),
        options.nodes,
        file.display(),
        actions_text.join("\n"),
    )
}

#[track_caller]
fn assert_none(found: &Found) {
    let failures = found.failures.first();
    if let Some((seed, violation)) = failures {
        let failure = explain(*seed, violation.clone(), None);
        panic!("{}", report(&failure));
    }
}

/// Reads `HEADSTART_SEED`, in hexadecimal with `0x` or in decimal.
fn chosen_seed() -> Option<u64> {
    let seed = std::env::var("HEADSTART_SEED").ok()?;
    let parsed = match seed.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => seed.parse(),
    };
    Some(parsed.expect("HEADSTART_SEED is a number, or 0x and a hexadecimal number"))
}

#[test]
fn replay() {
    let Some(seed) = chosen_seed() else {
        println!("HEADSTART_SEED names the seed to replay; without it nothing is replayed");
        return;
    };
    let _machine = machine();
    if let Err(violation) = run(seed, None) {
        panic!("{}", report(&explain(seed, violation, None)));
    }
}

#[test]
fn seeds_that_failed_once_keep_all_invariants() {
    let _machine = machine();
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut seeds = Vec::new();
    for file in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        seeds.extend(lines.filter(|line| !line.is_empty()).map(|line| {
            let (seed, _) = line.split_once(' ').unwrap_or((line, ""));
            let hex = seed.strip_prefix("0x").expect("a seed begins with 0x");
            u64::from_str_radix(hex, 16).expect("a hexadecimal number")
        }));
    }
    let found = run_seeds(&seeds, None);
    assert_none(&found);
    assert_eq!(found.ran, seeds.len() as u64);
}

#[test]
fn all_seeds_keep_all_invariants_and_everything_happens() {
    let _machine = machine();
    let day = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        / 86_400;
    let of_day = day << 32;
    let of_day = of_day..of_day + SEEDS_OF_THE_DAY;
    println!("the seeds of the day are {of_day:#x?}");
    let most = if is_long() { LONG_SEEDS } else { SEEDS };
    let seeds: Vec<u64> = of_day.chain(0..most).collect();
    let begun = Instant::now();
    let found = run_seeds(&seeds, None);
    let seconds = begun.elapsed().as_secs_f64();
    println!("{} seeds in {seconds:.0} s", found.ran);
    assert_none(&found);
    assert_eq!(found.ran, seeds.len() as u64);
    let rare: Vec<String> = EXPECTED
        .iter()
        .map(|what| (what, found.coverage.get(*what).copied().unwrap_or(0)))
        .filter(|(_, count)| *count < OFTEN_ENOUGH)
        .map(|(what, count)| format!("{what}: {count}"))
        .collect();
    assert!(
        rare.is_empty(),
        "too rare:\n{}\nof\n{:#?}",
        rare.join("\n"),
        found.coverage
    );
}

/// The transitions of pulls and holds, the answers to commands, and the faults.
const EXPECTED: &[&str] = &[
    "create: new",
    "create: exists",
    "create: refused",
    "create: unavailable",
    "create: unknown",
    "delete: done",
    "delete: unknown",
    "resume: resumed",
    "resume: already",
    "resume: left paused",
    "resume: conflict",
    "resume: refused",
    "resume: unknown",
    "resume: not held",
    "resume: images changed",
    "lookup: done",
    "lookup: failed",
    "pull: present",
    "pull: failed",
    "pull: refused",
    "pull: create failed",
    "pull: pod lost",
    "pull: back-off",
    "pull: abandoned",
    "pull: node refused",
    "pull: kubelet silent",
    "pull: other terms",
    "pull: deferred",
    "pull: node joined",
    "pull: pods deleted",
    "hold: begun",
    "hold: reported",
    "hold: ended by a write",
    "hold: ended as Warm",
    "hold: ended as ImageFailed",
    "hold: ended as Blocked",
    "hold: ended as Deadline",
    "hold: ended as ImpossibleMarks",
    "hold: ended as NotAsked",
    "hold: ended as ByHand",
    "hold: ended as NoNode",
    "hold: mark removed",
    "hold: not begun as NoLeader",
    "hold: ended as Updated",
    "hold: not resumed",
    "hold: left paused",
    "term: begun",
    "term: lost",
    "fault: crash",
    "fault: stop",
    "fault: clock",
    "fault: late watch",
    "fault: watch cut",
    "fault: old list",
    "fault: request lost",
    "fault: answer lost",
    "fault: 429",
    "fault: 500",
    "fault: 403",
    "fault: 422",
    "fault: API server down",
    "fault: webhook skipped",
    "fault: write during a resume",
    "fault: fence closed",
    "fault: registry",
    "fault: quota",
    "fault: node not ready",
    "fault: node cordoned",
    "fault: node tainted",
    "fault: kubelet frozen",
    "fault: node full",
    "scheduler: bound",
    "pull: counts paused",
    "fault: eviction",
    "fault: node deleted",
    "fault: images removed",
    "fault: disk pressure",
    "fault: forged marks",
    "fault: marks removed",
    "fault: labelled pod",
    "fault: gated pod",
    "fault: forged review",
    "fault: deleted pod",
];

#[test]
fn a_seed_does_the_same_each_time() {
    let _machine = machine();
    for seed in 0..100 {
        let (first, second) = (run(seed, None), run(seed, None));
        let hash =
            |run: &Result<headstart_sim::Run, Violation>| run.as_ref().map(|run| run.hash).ok();
        assert_eq!(hash(&first), hash(&second), "seed {seed}");
    }
}

#[test]
fn each_mutation_is_found() {
    let _machine = machine();
    let seeds: Vec<u64> = (0..SEEDS_PER_MUTATION).collect();
    let mut missed = BTreeSet::new();
    for mutation in Mutation::ALL {
        let found = run_seeds(&seeds, Some(mutation));
        match found.failures.first() {
            Some((seed, violation)) => {
                println!(
                    "{mutation:?}: after {} seeds, seed {seed}: {}",
                    found.ran, violation.invariant
                );
            }
            None => {
                missed.insert(mutation);
            }
        }
    }
    assert!(
        missed.is_empty(),
        "not found in {SEEDS_PER_MUTATION} seeds: {missed:?}"
    );
}
