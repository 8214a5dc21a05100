//! The controller: it decides which images are pulled on which nodes, and when a held rollout goes on.
//!
//! It performs no I/O and reads no clock. An event and the time go in; commands, events for users, measurements and log lines
//! come out; [`Controller::next_timeout`] says when to call again. One controller lives for one leadership term. It keeps
//! nothing that the next leader needs: the next leader reads prefetch pods, and the marks of holds, from the store.
//!
//! Each part owns its state and takes what it needs as arguments; `parts` routes an event to those that it concerns.

mod absence;
mod after_ready;
mod answers;
mod backoff;
mod blocking;
mod budget;
mod canary;
pub mod command;
mod consistency;
mod creates;
mod deferral;
mod deployments;
mod dispatch;
mod excess;
mod expectations;
mod expiry;
mod failed_pulls;
mod failure_reports;
mod fair_queue;
mod followers;
mod gc;
mod hold_entry;
mod hold_removal;
mod hold_reports;
mod holds;
mod image_sizes;
mod kubelets;
mod leaving_nodes;
pub mod log;
mod lookups;
mod marked_nodes;
mod messages;
mod met_quotas;
mod node_marks;
mod node_pulls;
mod nodes;
pub mod observation;
mod outlook;
mod parts;
mod planning;
mod pod_counts;
mod pod_slots;
mod prefetch;
mod progress;
mod pull;
mod pull_secrets;
mod pull_state;
mod pulls;
mod quotas;
mod refresh;
mod refusal;
mod refusal_advice;
mod removal;
mod reports;
mod resumes;
mod shared_pulls;
mod sharing;
mod start_queue;
mod starting_pods;
mod stuck_pods;
mod terms;
#[cfg(test)]
mod tests;
mod timers;
mod turn;
mod write_error;

use std::collections::BTreeSet;

pub use budget::PullLimits;
pub use command::{Command, CommandResult, Event, Output};
pub use consistency::Inconsistency;

pub use observation::Stats;
pub use refusal::namespace_is_going;
pub use turn::ControllerConfig;

use crate::store::Store;
use crate::time::{Instant, Now};
use crate::workload::DeploymentKey;
use deferral::Deferral;
use log::LogLine;
use parts::Parts;
use timers::Timers;
use turn::{Ids, Turn};

/// Decides which images are pulled on which nodes, and when a held rollout goes on.
#[derive(Debug)]
pub struct Controller {
    config: ControllerConfig,
    parts: Parts,
    timers: Timers,
    ids: Ids,
}

impl Controller {
    /// Returns a controller for one leadership term.
    pub fn new(config: ControllerConfig) -> Self {
        Self {
            parts: Parts::new(&config),
            config,
            timers: Timers::default(),
            ids: Ids::default(),
        }
    }

    /// Begins a term. Returns the events to apply first, one by one: what changed while no replica led is in the store.
    pub fn start(&mut self, store: &Store, now: Now, out: &mut Output) -> Vec<Event> {
        let mut keys: BTreeSet<DeploymentKey> = store.held_deployments().cloned().collect();
        keys.extend(store.deployments_with_pods().cloned());
        keys.extend(store.all_enabled().map(|workload| workload.key.clone()));
        out.logs.push(LogLine::Leading {
            deployments: keys.len(),
        });
        let deployments = keys.into_iter().map(|key| Event::DeploymentChanged {
            key,
            reviewed: None,
        });
        let mut events: Vec<Event> = deployments.collect();
        let mut changed = BTreeSet::new();
        let (parts, turn) = self.turn(store, now, out, &mut changed);
        let young = parts.seen_nodes.init_seen_nodes(&turn);
        events.extend(young.into_iter().map(Event::NodeChanged));
        events
    }

    /// Applies one event.
    pub fn apply(&mut self, event: Event, store: &Store, now: Now, out: &mut Output) {
        let mut changed = BTreeSet::new();
        let (parts, mut turn) = self.turn(store, now, out, &mut changed);
        parts.handle(event, &mut turn);
        parts.settle(&mut turn);
    }

    /// Returns when [`Event::Timeout`] is to be applied next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next_timeout()
    }

    /// Returns the work that is left. Takes time for the prefetches that are not finished.
    pub fn stats(&self, now: Instant) -> Stats {
        let mut stats = Stats {
            pulling: self.parts.pulls.nodes_pulling(),
            held: self.parts.holds.len(),
            resumes: self.parts.holds.health(now),
            creates: self.parts.dispatcher.creates.len(),
            ..Stats::default()
        };
        for prefetch in self.parts.pulls.prefetches.values() {
            let pending = prefetch.nodes.pending_count();
            if pending > 0 && prefetch.deferral != Deferral::AfterReady {
                stats.deployments += 1;
                stats.nodes += pending;
                let since = now.duration_since(prefetch.started);
                stats.oldest = stats.oldest.max(since);
            }
        }
        stats
    }

    /// Checks that the parts agree with each other, and that nothing waits for an event that never comes.
    ///
    /// # Errors
    /// Names the inconsistency, which is a defect of the controller.
    pub fn check(&self) -> Result<(), Inconsistency> {
        let Parts {
            pulls,
            dispatcher,
            lookups,
            holds,
            ..
        } = &self.parts;
        consistency::check(pulls, dispatcher, lookups, &self.timers)?;
        consistency::check_holds(holds, &self.timers)
    }

    fn turn<'a>(
        &'a mut self,
        store: &'a Store,
        now: Now,
        out: &'a mut Output,
        changed: &'a mut BTreeSet<DeploymentKey>,
    ) -> (&'a mut Parts, Turn<'a>) {
        let turn = Turn {
            config: &self.config,
            store,
            now,
            out,
            timers: &mut self.timers,
            ids: &mut self.ids,
            changed,
        };
        (&mut self.parts, turn)
    }
}
