//! Bounds how many Deployments of one namespace pull at the same time. The others start in the order in which they came.
//!
//! Each that pulls takes memory for each node, and is looked at whenever a node has a free slot. With the limit, a namespace
//! with thousands of Deployments takes neither from the others.

use std::collections::{BTreeMap, BTreeSet};

use super::deferral::Deferral;
use super::fair_queue::FairQueue;
use super::prefetch::Prefetch;
use crate::workload::DeploymentKey;

/// The result of a request for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartDecision {
    /// The prefetch may start.
    Starts,
    /// It waits for a place. `first` says whether nothing else of its namespace waits.
    Waits { first: bool },
}

/// The Deployments that pull, and those that wait until one of their namespace is done.
#[derive(Debug)]
pub(super) struct StartQueue {
    /// Zero is no limit.
    limit: usize,
    /// The Deployments with a place, by namespace. One that is done keeps its place until another wants it.
    started: BTreeMap<String, BTreeSet<DeploymentKey>>,
    waiting: FairQueue,
}

impl StartQueue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            started: BTreeMap::new(),
            waiting: FairQueue::default(),
        }
    }

    /// Returns the number of Deployments of one namespace that pull at the same time.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Gives a Deployment a place, or lets it wait for one.
    pub(super) fn request(
        &mut self,
        key: &DeploymentKey,
        prefetches: &BTreeMap<DeploymentKey, Prefetch>,
    ) -> StartDecision {
        if self.limit == 0 {
            return StartDecision::Starts;
        }
        let started = self.started.entry(key.namespace.clone()).or_default();
        if started.len() >= self.limit {
            started.retain(|key| prefetches.get(key).is_some_and(is_pulling));
        }
        if started.len() < self.limit {
            started.insert(key.clone());
            return StartDecision::Starts;
        }
        let first = !self.waiting.contains_namespace(&key.namespace);
        self.waiting.push(key);
        StartDecision::Waits { first }
    }

    /// Frees the place of a Deployment that does not pull, if others wait for one.
    pub(super) fn observe(&mut self, key: &DeploymentKey, prefetch: Option<&Prefetch>) {
        if self.waiting.contains_namespace(&key.namespace)
            && !prefetch.is_some_and(is_pulling)
            && let Some(started) = self.started.get_mut(&key.namespace)
        {
            started.remove(key);
        }
    }

    /// Removes and returns the next Deployment for which there is a place.
    pub(super) fn pop(&mut self) -> Option<DeploymentKey> {
        let Self {
            limit,
            started,
            waiting,
        } = self;
        let has_place = |namespace: &str| {
            let started = started.get(namespace);
            started.is_none_or(|started| started.len() < *limit)
        };
        waiting.pop_where(has_place)
    }

    /// Returns whether a Deployment waits for a place.
    pub(super) fn is_waiting(&self, key: &DeploymentKey) -> bool {
        self.waiting.contains(key)
    }

    /// Checks that none waits while there is a place.
    ///
    /// # Errors
    /// Names one that has a place and does not pull.
    pub(super) fn check(
        &self,
        prefetches: &BTreeMap<DeploymentKey, Prefetch>,
    ) -> Result<(), String> {
        for (namespace, started) in &self.started {
            if !self.waiting.contains_namespace(namespace) {
                continue;
            }
            if started.len() < self.limit {
                return Err(format!("a Deployment of {namespace} waits for no reason"));
            }
            let idle = |key: &&DeploymentKey| !prefetches.get(key).is_some_and(is_pulling);
            if let Some(key) = started.iter().find(idle) {
                return Err(format!("{key} does not pull, and others wait for it"));
            }
        }
        Ok(())
    }
}

/// Returns whether a prefetch takes a place: a node is to get images that can answer, and no one else's word is awaited.
fn is_pulling(prefetch: &Prefetch) -> bool {
    let mut pulls = prefetch.nodes.iter();
    prefetch.nodes.pending_count() > 0
        && prefetch.deferral != Deferral::AfterReady
        && prefetch.refusals.count == 0
        && pulls.any(|(_, pull)| !pull.state().is_final() && !pull.is_absent())
}
