//! The arguments that every part of the controller gets while one event is applied.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;

use super::budget::PullLimits;
use super::command::{CommandId, Output};
use super::timers::Timers;
use crate::hold::HoldLimits;
use crate::pod::PodSettings;
use crate::store::Store;
use crate::time::Now;
use crate::workload::{DeploymentKey, Workload};

/// The configuration of the controller.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// The time for which finished pods stay after the rollout.
    pub retain: SignedDuration,
    /// The limits for pulls at the same time.
    pub limits: PullLimits,
    /// The time between two pulls of the same images, where the Deployment does not say.
    pub refresh: Option<SignedDuration>,
    /// The most Deployments whose images are pulled to a node that joins.
    pub new_node_deployments: usize,
    /// The limits for the duration of holds; `None` if no rollout is held.
    pub holds: Option<HoldLimits>,
    /// The most creates in flight.
    pub max_writes: usize,
    /// The settings that all prefetch pods share.
    pub pods: Arc<PodSettings>,
}

impl ControllerConfig {
    /// Returns the time between two pulls of the same images of a Deployment.
    fn refresh_interval(&self, workload: &Workload) -> Option<SignedDuration> {
        let own = workload.annotations.refresh.as_ref();
        own.map(|refresh| refresh.0).or(self.refresh)
    }
}

/// One event's turn.
pub(super) struct Turn<'a> {
    pub(super) config: &'a ControllerConfig,
    pub(super) store: &'a Store,
    pub(super) now: Now,
    pub(super) out: &'a mut Output,
    pub(super) timers: &'a mut Timers,
    pub(super) ids: &'a mut Ids,
    /// Deployments whose hold, pull secrets and end of the prefetch are looked at when the event is applied.
    pub(super) changed: &'a mut BTreeSet<DeploymentKey>,
}

/// Numbers that are used once in a term.
#[derive(Debug, Default)]
pub(super) struct Ids(u64);

impl Ids {
    pub(super) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

impl Turn<'_> {
    /// Returns the time between two pulls of the same images of a Deployment. Where a quota counts finished pods, none is kept
    /// that would tell when the images were pulled, so they are not pulled again.
    pub(super) fn refresh_interval(&self, workload: &Workload) -> Option<SignedDuration> {
        let every = self.config.refresh_interval(workload)?;
        let kept = !self.store.counts_finished_pods(&workload.key.namespace);
        kept.then_some(every)
    }

    /// Returns the name for a new command.
    pub(super) fn command_id(&mut self) -> CommandId {
        CommandId(self.ids.next())
    }

    /// Marks a Deployment to be looked at when the event is applied.
    pub(super) fn mark_changed(&mut self, key: &DeploymentKey) {
        if !self.changed.contains(key) {
            self.changed.insert(key.clone());
        }
    }
}
