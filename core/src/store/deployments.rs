//! Deployments, and which of their changes matter.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cache::{Cache, Scope, Update, in_scope};
use super::change::Change;
use crate::workload::{DeploymentKey, Workload};

/// All Deployments.
#[derive(Debug, Default)]
pub(super) struct Deployments {
    all: Cache<DeploymentKey, Arc<Workload>>,
    /// Those that carry the mark of a hold.
    held: BTreeSet<DeploymentKey>,
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
                change.into_iter().collect()
            }
            Update::Deleted(key) => {
                self.all.remove(&key);
                self.held.remove(&key);
                vec![Change::Deployment(key)]
            }
            Update::ListFinished => {
                let covered = |key: &DeploymentKey| in_scope(scope, &key.namespace);
                let gone = self.all.finish_relist(scope, covered).into_iter();
                let gone = gone.map(|(key, _)| {
                    self.held.remove(&key);
                    Change::Deployment(key)
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
