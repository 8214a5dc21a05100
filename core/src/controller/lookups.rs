//! Reads of the API server that a prefetch waits for: lists of a Deployment's own pods, and ServiceAccounts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::command::{Command, CommandId, PodFilter, Reviewed};
use super::turn::Turn;
use crate::scheduling::selector::Selector;
use crate::workload::{DeploymentKey, Workload};

/// How many reads are in flight at most: thousands of Deployments may begin to roll out at once.
const MAX_LOOKUPS: usize = 16;

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

/// The reads in flight, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    in_flight: BTreeMap<CommandId, Lookup>,
    waiting: VecDeque<Lookup>,
}

impl Lookups {
    /// Sends a read, or queues it if too many are in flight.
    pub(super) fn start(&mut self, lookup: Lookup, turn: &mut Turn<'_>) {
        if self.in_flight.len() < MAX_LOOKUPS {
            self.send(lookup, turn);
        } else {
            self.waiting.push_back(lookup);
        }
    }

    /// Returns the read that a command was for, and sends the next.
    pub(super) fn finish(&mut self, id: CommandId, turn: &mut Turn<'_>) -> Option<Lookup> {
        let finished = self.in_flight.remove(&id)?;
        if let Some(next) = self.waiting.pop_front() {
            self.send(next, turn);
        }
        Some(finished)
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
        let mut lookups = self.in_flight.values().chain(&self.waiting);
        lookups.any(|lookup| {
            matches!(lookup, Lookup::StartingPods { workload, prefetch, .. }
                if workload.key == *key && *prefetch == id)
        })
    }
}
