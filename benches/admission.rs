//! headstart's webhook over TLS, against a webhook written with controller-runtime.
//!
//!     cargo bench --bench admission              prints the table
//!     cargo bench --bench admission -- --check   and fails when a goal is missed
//!
//! Each server is a process of its own, with the same certificate. The load generator is this process, and shares the
//! machine's cores with the server it loads, which brings throughputs closer together than they are: so requests per second
//! of the *server's* CPU time are shown too, which are not.
//! Rounds of the servers are interleaved, so that what disturbs the machine disturbs all of them.

mod admission {
    pub(crate) mod load;
    pub(crate) mod servers;
}

use std::process::ExitCode;
use std::time::Duration;

use admission::load::{Cell, Load, Measured, Pace};
use admission::servers::{self, Server};

/// The number of turns that each server has in each cell.
const ROUNDS: usize = 5;
/// The duration of a turn.
const TURN: Duration = Duration::from_millis(700);
/// The sizes of the Deployment in a review, in kilobytes.
const BODIES: [usize; 3] = [4, 16, 100];
/// The numbers of kept connections.
const CONNECTIONS: [usize; 4] = [1, 10, 50, 200];
/// A steady rate that leaves every server most of the machine, so that latency is measured and not queueing.
const STEADY: u32 = 400;

/// The goal: headstart's requests per second, and per second of CPU time, as multiples of controller-runtime's: the
/// geometric mean over all cells with kept connections of the median over the rounds.
const OF_CONTROLLER_RUNTIME: f64 = 8.0;
/// The goal for what headstart adds to a write: the 99th percentile at 50 connections and a steady rate.
const ADDED: Duration = Duration::from_micros(500);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if servers::is_to_serve(&arguments) {
        servers::serve(&arguments);
        return ExitCode::SUCCESS;
    }
    // `cargo test` runs benches too, without `--bench`; there is nothing to test here.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let check = arguments.iter().any(|argument| argument == "--check");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if runtime.block_on(run()) || !check {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Measures and prints. Returns whether every goal was met.
async fn run() -> bool {
    let certificates = servers::Certificates::new();
    let mut servers = vec![Server::headstart(&certificates).await];
    match Server::controller_runtime(&certificates).await {
        Ok(server) => servers.push(server),
        Err(error) => println!("without controller-runtime: {error}"),
    }
    let load = Load::new(&certificates.ca);
    println!(
        "| body | connections | server | requests/s | requests/CPU-second | p50 | p95 | p99 | RSS |\n|---|---|---|---|---|---|---|---|---|"
    );
    let (mut throughput, mut cpu) = (Vec::new(), Vec::new());
    for kilobytes in BODIES {
        for connections in CONNECTIONS {
            let cell = Cell {
                kilobytes,
                connections,
                pace: Pace::AsFastAsPossible,
            };
            let measured = measure(&load, &mut servers, cell).await;
            if let Some(other) = measured.get(1) {
                throughput.push(measured[0].ratio(other, |turn| turn.per_second));
                cpu.push(measured[0].ratio(other, |turn| turn.per_cpu_second));
            }
        }
    }
    let new = Cell {
        kilobytes: 4,
        connections: 10,
        pace: Pace::NewConnections,
    };
    measure(&load, &mut servers, new).await;
    let steady = Cell {
        kilobytes: 4,
        connections: 50,
        pace: Pace::Steady(STEADY),
    };
    let steady = measure(&load, &mut servers, steady).await;

    let added = steady[0].percentile(99);
    let mut met = added < ADDED;
    let of_controller_runtime = if throughput.is_empty() {
        // Could not be measured, as was said above: a goal that was missed.
        met = false;
        "not measured".to_owned()
    } else {
        let (throughput, cpu) = (geometric_mean(&throughput), geometric_mean(&cpu));
        met &= throughput >= OF_CONTROLLER_RUNTIME && cpu >= OF_CONTROLLER_RUNTIME;
        format!("{throughput:.1} in requests/s and {cpu:.1} in requests/CPU-second")
    };
    println!(
        "multiple of controller-runtime's: {of_controller_runtime} (goal {OF_CONTROLLER_RUNTIME} in both); p99 at 50 \
        connections and {STEADY}/s: {added:.2?} (goal {ADDED:?}): {}",
        if met { "met" } else { "MISSED" }
    );
    met
}

async fn measure(load: &Load, servers: &mut [Server], cell: Cell) -> Vec<Measured> {
    let mut measured: Vec<_> = servers.iter().map(|_| Measured::default()).collect();
    for round in 0..ROUNDS {
        for turn in 0..servers.len() {
            // The order rotates, so that no server is always the first.
            let index = (turn + round) % servers.len();
            let server = &servers[index];
            let before = server.cpu();
            let turn = load.run(server.port, &cell, TURN).await;
            measured[index].add(turn, server.cpu() - before);
        }
    }
    for (server, measured) in servers.iter().zip(&measured) {
        println!(
            "| {} KB | {cell} | {} | {:.0} | {:.0} | {:.2?} | {:.2?} | {:.2?} | {} MiB |",
            cell.kilobytes,
            server.name,
            measured.median(|turn| turn.per_second),
            measured.median(|turn| turn.per_cpu_second),
            measured.percentile(50),
            measured.percentile(95),
            measured.percentile(99),
            server.memory(),
        );
    }
    measured
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (logarithms / ratios.len() as f64).exp()
}
