//! headstart's webhook over TLS, against a bare axum echo of the same bodies and a webhook written with controller-runtime.
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

/// How often each server has its turn in each cell.
const ROUNDS: usize = 5;
/// How long a turn takes.
const TURN: Duration = Duration::from_millis(700);
/// Kilobytes of the Deployment in a review.
const BODIES: [usize; 3] = [4, 16, 100];
/// Connections that are kept.
const CONNECTIONS: [usize; 4] = [1, 10, 50, 200];
/// A steady rate that leaves every server most of the machine: what is seen then is latency, not queueing.
const STEADY: u32 = 400;

/// The goals: headstart's throughput in parts of the others', the geometric mean over all cells with kept connections of the
/// median over the rounds.
const OF_ECHO: f64 = 0.9;
const OF_CONTROLLER_RUNTIME: f64 = 3.0;
/// What headstart adds to the echo's p99 at 50 connections and a steady rate.
const ADDED: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(kind) = servers::to_serve(&arguments) {
        servers::serve(&kind, &arguments);
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

/// Measures and prints; whether every goal was met.
async fn run() -> bool {
    let certificates = servers::Certificates::new();
    let mut servers = vec![
        Server::headstart(&certificates).await,
        Server::echo(&certificates).await,
    ];
    match Server::controller_runtime(&certificates).await {
        Ok(server) => servers.push(server),
        Err(error) => println!("without controller-runtime: {error}"),
    }
    let load = Load::new(&certificates.authority);
    println!(
        "| body | connections | server | requests/s | requests/CPU-second | p50 | p95 | p99 | RSS |\n|---|---|---|---|---|---|---|---|---|"
    );
    let mut ratios: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); servers.len()];
    for kilobytes in BODIES {
        for connections in CONNECTIONS {
            let cell = Cell {
                kilobytes,
                connections,
                pace: Pace::AsFastAsPossible,
            };
            let measured = measure(&load, &mut servers, cell).await;
            for ((throughput, cpu), other) in ratios.iter_mut().zip(&measured) {
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

    let figures = |index: usize| {
        let (throughput, cpu): &(Vec<f64>, Vec<f64>) = ratios.get(index)?;
        Some((geometric_mean(throughput), geometric_mean(cpu)))
    };
    let added = steady[0]
        .percentile(99)
        .saturating_sub(steady[1].percentile(99));
    let mut met = added < ADDED;
    let mut line = String::from("throughput");
    for (index, name, goal) in [
        (1, "the echo's", OF_ECHO),
        (2, "controller-runtime's", OF_CONTROLLER_RUNTIME),
    ] {
        // What could not be measured was said above, and is a goal that was missed.
        let Some((throughput, cpu)) = figures(index) else {
            met = false;
            continue;
        };
        met &= throughput >= goal;
        line += &format!(" {throughput:.2} of {name} (goal {goal}; {cpu:.2} per CPU-second),");
    }
    println!(
        "{line} p99 added at 50 connections: {added:?} (goal {ADDED:?}): {}",
        if met { "met" } else { "MISSED" }
    );
    met
}

async fn measure(load: &Load, servers: &mut [Server], cell: Cell) -> Vec<Measured> {
    let mut measured: Vec<_> = servers.iter().map(|_| Measured::default()).collect();
    for round in 0..ROUNDS {
        for turn in 0..servers.len() {
            // Nobody is always the first.
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
