//! `cargo testbed` and `cargo demo`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use testbed::assets::Assets;
use testbed::control_plane::Options;
use testbed::demo::{self, Demo};
use testbed::headstart::{self, Availability, PreviousRelease, Profile};
use testbed::persistent::{self, PersistentCluster};
use testbed::{ControlPlane, FakeNodes, Nodes, nodes};

/// Real Kubernetes clusters on this machine, from nothing but Rust, Go and gcc
#[derive(Parser)]
#[command(name = "cargo testbed", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster and leave it running
    Up {
        /// Real nodes: kubelets with containerd (root, Linux)
        #[arg(long, default_value_t = 0, value_name = "N")]
        nodes: usize,
        /// Nodes that only pretend (kwok)
        #[arg(long, default_value_t = 0, value_name = "N")]
        fake_nodes: usize,
    },
    /// Print how to use the clusters that run
    Show,
    /// End every cluster that was left running
    Down,
    /// Build what clusters and tests need: their programs, headstart's static binary, and its previous release
    Build,
    /// Show what headstart does for a rollout
    Demo(Demo),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    let text = match command {
        Command::Up { nodes, fake_nodes } => up(nodes, fake_nodes).await?,
        Command::Show => persistent::usages()?.join("\n"),
        Command::Build => build().await?,
        Command::Demo(options) => return demo::run(options).await,
        Command::Down => format!("{} ended\n", persistent::end_all()?),
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Builds all programs, and returns where they are. Without root or Linux, those of real nodes are left out.
async fn build() -> Result<String> {
    let build = || {
        Assets::control_plane()?;
        Assets::oracle()?;
        match nodes::unavailable() {
            Some(reason) => eprintln!("without the programs of real nodes: {reason}"),
            None => drop(Assets::nodes()?),
        }
        if let Availability::NoHistory(reason) = PreviousRelease::build()? {
            eprintln!("without the previous release: {reason}");
        }
        headstart::binary(Profile::Ci)
    };
    let binary = tokio::task::spawn_blocking(build).await??;
    Ok(format!("{}\n", binary.display()))
}

async fn up(nodes: usize, fake_nodes: usize) -> Result<String> {
    let options = Options::default();
    let cluster = match nodes {
        0 => PersistentCluster::Fake(Box::new(ControlPlane::start(options).await?)),
        count => PersistentCluster::Real(Box::new(Nodes::start(count, options).await?)),
    };
    if fake_nodes > 0 {
        let fake = FakeNodes {
            count: fake_nodes,
            ..FakeNodes::default()
        };
        cluster
            .control_plane()
            .add_fake_nodes(fake, |_, _| {})
            .await?;
    }
    cluster.keep().await
}
