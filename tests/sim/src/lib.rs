//! A simulated cluster for headstart's controller.
//!
//! A seed draws a small cluster, users, and a few kinds of faults. The real store and controller run in it, in virtual time and on one
//! thread, so that a seed always does the same. Invariants are checked after each step; when all faults have ended, everything
//! must come to its end. A failure is repeated with fewer actions until only those are left that it needs.

pub mod actions;
pub mod api_server;
mod cluster;
pub mod conformance;
mod controllers;
mod executor;
mod invariants;
mod kubelets;
pub mod mutation;
mod node_images;
mod nodes;
pub mod options;
mod queue;
pub mod random;
mod registry;
mod replica;
mod scheduler;
mod shrink;
mod term;
mod users;
mod watches;
mod webhook;
mod workloads;
mod world;

use std::collections::BTreeMap;

use actions::Action;
pub use invariants::Violation;
pub use kubelets::pod_images;
use mutation::Mutation;
pub use nodes::{node_object, planned_nodes};
use options::Options;
pub use workloads::hold;
use world::World;

/// What a seed did that kept all invariants.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// How often each kind of thing has happened.
    pub coverage: BTreeMap<String, u64>,
    /// A hash of all events and commands.
    pub hash: u64,
}

/// A failure, with as few actions as were found.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The invariant that does not hold.
    pub violation: Violation,
    /// The options of the seed.
    pub options: Options,
    /// The actions that are left.
    pub actions: Vec<Action>,
    /// How many there were.
    pub drawn: usize,
    /// What has happened, step by step.
    pub trace: Vec<String>,
}

/// Runs a seed.
///
/// # Errors
/// Names the invariant that does not hold.
pub fn run(seed: u64, mutation: Option<Mutation>) -> Result<Run, Violation> {
    let options = Options::draw(seed);
    let actions = actions::draw(seed, &options);
    let mut world = World::new(seed, options, actions, mutation);
    world.run()?;
    Ok(Run {
        coverage: world.coverage().clone(),
        hash: world.hash,
    })
}

/// Runs a seed that fails once more, with fewer actions; writes down what happens.
pub fn explain(seed: u64, violation: Violation, mutation: Option<Mutation>) -> Failure {
    let options = Options::draw(seed);
    let drawn = actions::draw(seed, &options);
    let count = drawn.len();
    let (actions, violation) = shrink::shrink(seed, &options, drawn, violation, mutation);
    let mut world = World::new(seed, options.clone(), actions.clone(), mutation);
    world.cluster.trace = Some(Vec::new());
    let result = world.run();
    Failure {
        seed,
        violation: result.err().unwrap_or(violation),
        options,
        actions,
        drawn: count,
        trace: world.cluster.trace.take().unwrap_or_default(),
    }
}
