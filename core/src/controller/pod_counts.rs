//! The number of pods on the nodes that prefetches are about to use, and the reads of the API server that tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::command::{Command, CommandId};
use super::log::LogLine;
use super::timers::{TimerKey, Timers};
use super::turn::Turn;
use crate::store::{DeploymentNode, NodeName, PodId};
use crate::time::Instant;
use crate::workload::DeploymentKey;

/// The most reads in flight.
pub(super) const MAX_READS: usize = 32;
/// The time for which a count is used. A node is counted once in this time.
pub(super) const MAX_AGE: Duration = Duration::from_secs(60);
/// The number of failures in a row after which nothing is counted for [`MAX_AGE`].
pub(super) const MAX_FAILURES: u32 = 3;

/// The pods on a node at some time.
#[derive(Debug)]
pub(super) struct PodCount {
    /// The number of pods; `None` if it could not be read.
    pub(super) pods: Option<u32>,
    /// Prefetch pods among them.
    pub(super) own: BTreeSet<PodId>,
    /// The time at which they were counted.
    pub(super) at: Instant,
}

/// A read in flight.
#[derive(Debug)]
struct Read {
    /// The prefetch pods on the node when the read was sent. One that has ended since is counted for too long, and one that is
    /// created meanwhile may be counted twice, but none is left out.
    own: BTreeSet<PodId>,
    /// The Deployments that wait for the answer.
    waiting: BTreeSet<DeploymentKey>,
}

/// The counts that are not old, and the reads in flight.
#[derive(Debug, Default)]
pub(super) struct PodCounts {
    counts: BTreeMap<NodeName, PodCount>,
    in_flight: BTreeMap<CommandId, NodeName>,
    reads: BTreeMap<NodeName, Read>,
    /// Nodes to count while no prefetch needs the places, because one will soon ask for them.
    ahead: BTreeSet<NodeName>,
    /// Deployments that wait for a place.
    parked: BTreeSet<DeploymentKey>,
    /// The number of failures in a row.
    failures: u32,
    /// The time until which nothing is counted.
    paused_until: Option<Instant>,
}

impl PodCounts {
    /// Returns the count of a node, unless it is old.
    pub(super) fn get(&self, node: &str, now: Instant) -> Option<&PodCount> {
        let count = self.counts.get(node);
        count.filter(|count| now.duration_since(count.at) < MAX_AGE)
    }

    /// Returns whether nothing is counted now, because reads fail.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Returns whether one more read may be sent.
    pub(super) fn has_place(&self) -> bool {
        self.reads.len() < MAX_READS
    }

    /// Sends a read for a node that has none in flight.
    pub(super) fn read(&mut self, node: NodeName, turn: &mut Turn<'_>) {
        let id = turn.command_id();
        self.ahead.remove(&node);
        self.in_flight.insert(id, node.clone());
        let read = Read {
            own: turn.store.alive_pods_on(&node).cloned().collect(),
            waiting: BTreeSet::new(),
        };
        self.reads.insert(node.clone(), read);
        turn.out.commands.push(Command::CountPods { id, node });
    }

    /// Lets a Deployment wait for the read of a node. Returns false if none is in flight.
    pub(super) fn wait(&mut self, at: &DeploymentNode) -> bool {
        let Some(read) = self.reads.get_mut(&at.node) else {
            return false;
        };
        read.waiting.insert(at.key.clone());
        true
    }

    /// Lets a Deployment wait for a place.
    pub(super) fn park(&mut self, key: &DeploymentKey) {
        self.parked.insert(key.clone());
    }

    /// Removes and returns the Deployments that wait for a place.
    pub(super) fn take_parked(&mut self) -> BTreeSet<DeploymentKey> {
        std::mem::take(&mut self.parked)
    }

    /// Returns whether a Deployment waits for a count, or for a place.
    pub(super) fn is_waiting(&self, at: &DeploymentNode) -> bool {
        let read = self.reads.get(&at.node);
        self.parked.contains(&at.key) || read.is_some_and(|read| read.waiting.contains(&at.key))
    }

    /// Adds a node to those that are counted ahead.
    pub(super) fn plan(&mut self, node: NodeName) {
        self.ahead.insert(node);
    }

    /// Removes and returns the next node to count ahead.
    pub(super) fn pop_planned(&mut self, now: Instant) -> Option<NodeName> {
        while let Some(node) = self.ahead.pop_first() {
            if self.get(&node, now).is_none() && !self.reads.contains_key(&node) {
                return Some(node);
            }
        }
        None
    }

    /// Takes the answer to a read. Returns the nodes that waited for it.
    pub(super) fn finish(
        &mut self,
        id: CommandId,
        result: Result<u32, String>,
        turn: &mut Turn<'_>,
    ) -> Vec<DeploymentNode> {
        let at = turn.now.monotonic;
        let Some(node) = self.in_flight.remove(&id) else {
            return Vec::new();
        };
        let Some(Read { own, waiting }) = self.reads.remove(&node) else {
            return Vec::new();
        };
        let mut queued = on_node(&node, waiting);
        let pods = match result {
            Ok(pods) => {
                self.failures = 0;
                Some(pods)
            }
            Err(error) => {
                self.on_failure(&node, error, turn);
                None
            }
        };
        if self.is_paused(at) {
            for (node, read) in &mut self.reads {
                queued.extend(on_node(node, std::mem::take(&mut read.waiting)));
            }
        }
        self.counts.insert(node, PodCount { pods, own, at });
        turn.timers.set_at_latest(TimerKey::PodCounts, at + MAX_AGE);
        queued
    }

    fn on_failure(&mut self, node: &NodeName, error: String, turn: &mut Turn<'_>) {
        self.failures += 1;
        let paused = self.failures >= MAX_FAILURES;
        if paused {
            self.failures = 0;
            self.ahead.clear();
            self.paused_until = Some(turn.now.monotonic + MAX_AGE);
        }
        turn.out.logs.push(LogLine::CountFailed {
            node: node.clone(),
            error,
            paused,
        });
    }

    /// Forgets counts that are old.
    pub(super) fn forget_old(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        self.counts
            .retain(|_, count| now.duration_since(count.at) < MAX_AGE);
        if !self.counts.is_empty() {
            turn.timers.set(TimerKey::PodCounts, now + MAX_AGE);
        }
    }

    /// Forgets a node that is gone.
    pub(super) fn forget_node(&mut self, node: &str) {
        self.counts.remove(node);
        self.ahead.remove(node);
    }

    /// Checks that reads keep to their limit, that Deployments wait only while all places are taken, and that a timer forgets the
    /// counts.
    ///
    /// # Errors
    /// Names the inconsistency.
    pub(super) fn check(&self, timers: &Timers) -> Result<(), String> {
        let (commands, reads, parked) = (self.in_flight.len(), self.reads.len(), self.parked.len());
        let all_taken = parked == 0 || reads == MAX_READS;
        let has_timer = self.counts.is_empty() || timers.is_set(&TimerKey::PodCounts);
        if commands == reads && reads <= MAX_READS && all_taken && has_timer {
            return Ok(());
        }
        Err(format!(
            "{commands} commands count pods on {reads} nodes, {parked} Deployments wait, and a timer is set: {has_timer}"
        ))
    }
}

fn on_node(node: &NodeName, keys: BTreeSet<DeploymentKey>) -> Vec<DeploymentNode> {
    let at = |key| DeploymentNode {
        key,
        node: node.clone(),
    };
    keys.into_iter().map(at).collect()
}
