//! Deployments, and which of their changes matter.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cache::{Cache, Scope, Update, in_scope};
use super::change::Change;
use crate::resource_quota::Footprint;
use crate::workload::{DeploymentKey, Workload};

/// All Deployments.
#[derive(Debug, Default)]
pub(super) struct Deployments {
    all: Cache<DeploymentKey, Arc<Workload>>,
    /// Those that carry the mark of a hold.
    held: BTreeSet<DeploymentKey>,
    /// Those that a quota keeps from creating pods, until their rollouts are over.
    refused: BTreeSet<DeploymentKey>,
}

impl Deployments {
    pub(super) fn get(&self, key: &DeploymentKey) -> Option<&Arc<Workload>> {
        self.all.current().get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.all.current().values()
    }

    pub(super) fn held(&self) -> impl Iterator<Item = &DeploymentKey> {
        self.held.iter()
    }

    pub(super) fn in_namespace<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = &'a DeploymentKey> + use<'a> {
        let namespace = namespace.to_owned();
        let first = DeploymentKey {
            namespace: namespace.clone(),
            name: String::new(),
        };
        let keys = self.all.current().range(first..).map(|(key, _)| key);
        keys.take_while(move |key| key.namespace == namespace)
    }

    /// Returns a Deployment of a namespace that a quota keeps from creating pods.
    pub(super) fn refused_by_quota(&self, namespace: &str) -> Option<&DeploymentKey> {
        let first = DeploymentKey {
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let refused = self.refused.range(first..).next();
        refused.filter(|key| key.namespace == namespace)
    }

    /// Returns the pods that the rollouts of a namespace are still to create, those that are held included.
    pub(super) fn pods_to_come(&self, namespace: &str) -> Footprint {
        let keys = self.in_namespace(namespace);
        let workloads = keys.filter_map(|key| self.get(key));
        let to_come = workloads.map(|workload| workload.state.pods_to_come());
        to_come.fold(Footprint::default(), |sum, more| sum + more)
    }

    /// Records whether a quota keeps a Deployment from creating pods. Returns the change, if it is one.
    fn record_refusal(
        &mut self,
        key: &DeploymentKey,
        workload: Option<&Workload>,
    ) -> Option<Change> {
        let rollout = workload.map(|workload| workload.state.rollout);
        let changed = match rollout {
            Some(rollout) if rollout.quota_exceeded => self.refused.insert(key.clone()),
            // The places that it lacked are its own until it is over.
            Some(rollout) if !rollout.settled => false,
            _ => self.refused.remove(key),
        };
        changed.then(|| Change::Quota(key.namespace.clone()))
    }

    /// Applies an update.
    pub(super) fn apply(
        &mut self,
        scope: &Scope,
        update: Update<DeploymentKey, Workload>,
    ) -> Vec<Change> {
        match update {
            Update::ListStarted => {
                self.all.begin_relist(scope);
                Vec::new()
            }
            Update::Applied(key, workload) => {
                if workload.state.held.is_some() {
                    self.held.insert(key.clone());
                } else {
                    self.held.remove(&key);
                }
                let refusal = self.record_refusal(&key, Some(&workload));
                let workload = Arc::new(workload);
                let before = self.all.upsert(scope, key.clone(), workload.clone());
                let change = match before {
                    Some(before) if is_relevant_change(&before, &workload) => {
                        Some(Change::Deployment(key))
                    }
                    Some(before) if before.state.rollout != workload.state.rollout => {
                        Some(Change::Rollout(key))
                    }
                    Some(_) => None,
                    None => Some(Change::Deployment(key)),
                };
                change.into_iter().chain(refusal).collect()
            }
            Update::Deleted(key) => {
                self.all.remove(&key);
                self.held.remove(&key);
                let refusal = self.record_refusal(&key, None);
                [Change::Deployment(key)]
                    .into_iter()
                    .chain(refusal)
                    .collect()
            }
            Update::ListFinished => {
                let covered = |key: &DeploymentKey| in_scope(scope, &key.namespace);
                let gone = self.all.finish_relist(scope, covered).into_iter();
                let gone = gone.flat_map(|(key, _)| {
                    self.held.remove(&key);
                    let refusal = self.record_refusal(&key, None);
                    [Change::Deployment(key)].into_iter().chain(refusal)
                });
                gone.collect()
            }
        }
    }
}

/// Returns whether a change of a Deployment can change its prefetched images, their nodes, or the state of its hold.
fn is_relevant_change(before: &Workload, after: &Workload) -> bool {
    before.image_set != after.image_set
        || before.uid != after.uid
        || before.mode != after.mode
        || before.state.held != after.state.held
        || !same_pull_terms(before, after)
}

/// Returns whether two states of a Deployment with the same images want them on the same nodes, pulled in the same way.
pub fn same_pull_terms(a: &Workload, b: &Workload) -> bool {
    a.constraints == b.constraints
        && a.too_large == b.too_large
        && a.annotations == b.annotations
        && a.terms == b.terms
}
