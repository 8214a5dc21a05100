//! Measures an image update on real nodes: without headstart, with `enabled`, with `hold`, and with the images on every node
//! beforehand, which is the limit.
//!
//!     cargo bench --bench rollout                 prints the table; `--help` lists the options
//!     cargo bench --bench rollout -- --check      and fails when a goal is missed
//!     cargo bench --bench rollout -- --write      and writes docs/rollout.svg
//!
//! The four variants take turns within each round on the same cluster, each with its own Deployment. So a disturbance of the
//! machine affects all of them. Every update is to an image of which no node has a layer.

mod rollout {
    pub(crate) mod chart;
    pub(crate) mod cluster;
    pub(crate) mod goals;
    pub(crate) mod sample;
    pub(crate) mod table;
}

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rollout::cluster::TestCluster;
use rollout::sample::{Sample, Samples, Strategy, Variant};
use rollout::{chart, goals, table};
use testbed::{assets, nodes, progress};

/// The path of the chart that `--write` writes.
const CHART: &str = "docs/rollout.svg";

/// Measures image updates on real nodes, without and with headstart
#[derive(Parser)]
#[command(name = "rollout")]
struct Arguments {
    /// Sizes of the clusters, each started once
    #[arg(long, value_delimiter = ',', default_value = "3,4,6", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Vec<u16>,
    /// Number of turns of each variant; 0 shows the samples in FILE
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Append the samples to FILE, and include those of earlier runs in it
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Fail when a goal is missed
    #[arg(long)]
    check: bool,
    /// Write the chart to docs/rollout.svg
    #[arg(long)]
    write: bool,
    /// The argument that cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test` runs benches too, without `--bench`; there is nothing to test here.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    if let Some(reason) = nodes::unavailable().filter(|_| arguments.rounds > 0) {
        println!("nothing was measured: {reason}");
        return exit(!arguments.check);
    }
    match run(&arguments).await {
        Ok(met) => exit(met || !arguments.check),
        Err(error) => {
            eprintln!("rollout: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn exit(well: bool) -> ExitCode {
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Measures and prints. Returns whether every goal was met.
async fn run(arguments: &Arguments) -> Result<bool> {
    let mut samples = Samples::open(arguments.resume.clone())?;
    if arguments.rounds > 0 {
        for &nodes in &arguments.nodes {
            measure(nodes, arguments.rounds, &mut samples).await?;
        }
    }
    print!("{}", table::markdown(&samples));
    if arguments.write {
        let path = assets::workspace_root().join(CHART);
        std::fs::write(&path, chart::svg(&samples))?;
        println!("\nThe chart is in {CHART}.");
    }
    let goals = goals::all(&samples);
    println!("\n{}", goals::line(&goals));
    Ok(!goals.is_empty() && goals.iter().all(|goal| goal.is_met()))
}

async fn measure(nodes: u16, rounds: usize, samples: &mut Samples) -> Result<()> {
    let step = progress::Progress::start(format!("starting a cluster with {nodes} real nodes"));
    let mut cluster = TestCluster::start(nodes).await?;
    step.done();
    for round in 0..rounds {
        let pull = cluster.one_pull().await?;
        progress::say(&format!(
            "{nodes} nodes, round {} of {rounds}: one pull takes {pull:.2} s",
            round + 1
        ));
        for strategy in Strategy::ALL {
            for turn in 0..Variant::ALL.len() {
                // The order rotates, so that no variant is always the first.
                let variant = Variant::ALL[(turn + round) % Variant::ALL.len()];
                let update = cluster.update(variant, strategy).await?;
                let sample = Sample {
                    nodes,
                    strategy,
                    variant,
                    pull,
                    update,
                };
                progress::say(&sample.to_string());
                samples.add(sample)?;
            }
        }
    }
    Ok(())
}
