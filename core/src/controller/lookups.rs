//! Reads of the API server that a prefetch waits for: lists of a Deployment's own pods, and ServiceAccounts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::command::{Command, CommandId, PodFilter, Reviewed};
use super::pulls::Pulls;
use super::timers::{TimerKey, Timers};
use super::turn::Turn;
use crate::scheduling::selector::Selector;
use crate::store::Store;
use crate::time::Instant;
use crate::workload::{DeploymentKey, Workload};

/// The most reads in flight: thousands of Deployments may begin to roll out at once.
const MAX_LOOKUPS: usize = 16;
/// The longest time in the queue. A prefetch goes on without the answer then, as it does if the API server gives none.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// A read.
#[derive(Clone, Debug)]
pub(super) enum Lookup {
    /// The nodes where a Deployment runs, for a plan that depends on it.
    RunningPods {
        workload: Arc<Workload>,
        selector: Selector,
        /// The review that admitted the images.
        reviewed: Option<Reviewed>,
    },
    /// The nodes where pods of the rollout are about to start, for the prefetch with this number.
    StartingPods {
        workload: Arc<Workload>,
        selector: Selector,
        prefetch: u64,
    },
    /// The pull secrets of a ServiceAccount, for the prefetch with this number.
    PullSecrets {
        key: DeploymentKey,
        account: String,
        prefetch: u64,
    },
}

impl Lookup {
    /// Returns whether the answer is still of use.
    fn is_wanted(&self, pulls: &Pulls, store: &Store) -> bool {
        let is_current = |key, id| {
            let prefetch = pulls.prefetches.get(key);
            prefetch.is_some_and(|prefetch| prefetch.id == id)
        };
        match self {
            Self::RunningPods { workload, .. } => awaits_plan(pulls, store, workload),
            Self::StartingPods {
                workload, prefetch, ..
            } => is_current(&workload.key, *prefetch),
            Self::PullSecrets { key, prefetch, .. } => is_current(key, *prefetch),
        }
    }
}

/// Returns whether the images of a Deployment are still to be planned.
pub(super) fn awaits_plan(pulls: &Pulls, store: &Store, workload: &Workload) -> bool {
    let current = store.enabled(&workload.key);
    let same = current.is_some_and(|current| {
        current.image_set == workload.image_set && current.uid == workload.uid
    });
    let started = pulls.prefetches.get(&workload.key);
    same && started.is_none_or(|prefetch| !prefetch.has_same_images(workload))
}

/// The reads in flight, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    in_flight: BTreeMap<CommandId, Lookup>,
    /// In the order in which they came, with the time by which they are sent or fail.
    waiting: VecDeque<(Instant, Lookup)>,
}

impl Lookups {
    /// Sends a read, or queues it if too many are in flight.
    pub(super) fn start(&mut self, lookup: Lookup, turn: &mut Turn<'_>) {
        if self.in_flight.len() < MAX_LOOKUPS {
            self.send(lookup, turn);
        } else {
            let until = turn.now.monotonic + QUEUE_TIMEOUT;
            self.waiting.push_back((until, lookup));
            turn.timers.set_at_latest(TimerKey::Lookups, until);
        }
    }

    /// Returns the read that a command was for, and sends the next that is still wanted.
    pub(super) fn finish(
        &mut self,
        id: CommandId,
        pulls: &Pulls,
        turn: &mut Turn<'_>,
    ) -> Option<Lookup> {
        let finished = self.in_flight.remove(&id)?;
        while let Some((_, next)) = self.waiting.pop_front() {
            if next.is_wanted(pulls, turn.store) {
                self.send(next, turn);
                break;
            }
        }
        self.set_timer(turn);
        Some(finished)
    }

    /// Removes and returns the first read that has waited for too long.
    pub(super) fn pop_overdue(&mut self, turn: &mut Turn<'_>) -> Option<Lookup> {
        let (until, _) = self.waiting.front()?;
        let overdue = if *until <= turn.now.monotonic {
            self.waiting.pop_front().map(|(_, lookup)| lookup)
        } else {
            None
        };
        self.set_timer(turn);
        overdue
    }

    fn set_timer(&self, turn: &mut Turn<'_>) {
        match self.waiting.front() {
            Some((until, _)) => turn.timers.set(TimerKey::Lookups, *until),
            None => turn.timers.stop(&TimerKey::Lookups),
        }
    }

    fn send(&mut self, lookup: Lookup, turn: &mut Turn<'_>) {
        let id = turn.command_id();
        let command = match lookup.clone() {
            Lookup::RunningPods {
                workload, selector, ..
            } => Command::ListPods {
                id,
                workload,
                selector,
                filter: PodFilter::Running,
            },
            Lookup::StartingPods {
                workload, selector, ..
            } => Command::ListPods {
                id,
                workload,
                selector,
                filter: PodFilter::Starting,
            },
            Lookup::PullSecrets { key, account, .. } => {
                Command::ReadPullSecrets { id, key, account }
            }
        };
        self.in_flight.insert(id, lookup);
        turn.out.commands.push(command);
    }

    /// Returns whether the starting pods of a prefetch are being listed.
    pub(super) fn is_listing_starting(&self, key: &DeploymentKey, id: u64) -> bool {
        let waiting = self.waiting.iter().map(|(_, lookup)| lookup);
        let mut lookups = self.in_flight.values().chain(waiting);
        lookups.any(|lookup| {
            matches!(lookup, Lookup::StartingPods { workload, prefetch, .. }
                if workload.key == *key && *prefetch == id)
        })
    }

    /// Checks that reads wait only while all places are taken, and that a timer ends the wait.
    ///
    /// # Errors
    /// Names the inconsistency.
    pub(super) fn check(&self, timers: &Timers) -> Result<(), String> {
        let (in_flight, waiting) = (self.in_flight.len(), self.waiting.len());
        let has_timer = timers.is_set(&TimerKey::Lookups);
        let all_taken = waiting == 0 || in_flight == MAX_LOOKUPS;
        if in_flight > MAX_LOOKUPS || !all_taken || has_timer != (waiting > 0) {
            return Err(format!(
                "{in_flight} lookups are in flight, {waiting} wait, and a timer is set: {has_timer}"
            ));
        }
        Ok(())
    }
}
