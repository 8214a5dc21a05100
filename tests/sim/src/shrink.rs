//! Repeats a failure with fewer actions.

use std::time::{Duration, Instant};

use crate::actions::Action;
use crate::invariants::Violation;
use crate::mutation::Mutation;
use crate::options::Options;
use crate::world::World;

/// How long a failure is shrunk.
const TIME: Duration = Duration::from_secs(20);

/// Returns the fewest actions that were found with which the same invariant fails, and the violation with these.
pub(crate) fn shrink(
    seed: u64,
    options: &Options,
    actions: Vec<Action>,
    violation: Violation,
    mutation: Option<Mutation>,
) -> (Vec<Action>, Violation) {
    let begun = Instant::now();
    let (mut best, mut violation) = (actions, violation);
    let mut chunk = best.len().div_ceil(2).max(1);
    loop {
        let mut start = 0;
        let mut removed = false;
        while start < best.len() && begun.elapsed() < TIME {
            let mut fewer = best.clone();
            fewer.drain(start..(start + chunk).min(best.len()));
            let mut world = World::new(seed, options.clone(), fewer.clone(), mutation);
            match world.run() {
                Err(found) if found.invariant == violation.invariant => {
                    (best, violation) = (fewer, found);
                    removed = true;
                }
                _ => start += chunk,
            }
        }
        if begun.elapsed() >= TIME || (chunk == 1 && !removed) {
            return (best, violation);
        }
        chunk = (chunk / 2).max(1);
    }
}
