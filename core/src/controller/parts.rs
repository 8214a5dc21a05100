//! Routes each event to the parts of the controller that it concerns. Only this file sees all parts.

use std::collections::BTreeSet;

use super::command::{CommandId, CommandResult, Event};
use super::dispatch::Dispatcher;
use super::gc::Gc;
use super::holds::Holds;
use super::lookups::{Lookup, Lookups};
use super::nodes::SeenNodes;
use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::{ControllerConfig, Turn};
use super::{
    after_ready, deployments, excess, failed_pulls, followers, image_sizes, kubelets,
    leaving_nodes, marked_nodes, pod_slots, progress, pull, quotas, refresh, removal,
    starting_pods, terms,
};

/// The parts that keep state between events.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) pulls: Pulls,
    pub(super) dispatcher: Dispatcher,
    pub(super) lookups: Lookups,
    pub(super) seen_nodes: SeenNodes,
    pub(super) gc: Gc,
    pub(super) holds: Holds,
}

impl Parts {
    pub(super) fn new(config: &ControllerConfig) -> Self {
        Self {
            pulls: Pulls::new(config.limits),
            dispatcher: Dispatcher::default(),
            lookups: Lookups::default(),
            seen_nodes: SeenNodes::default(),
            gc: Gc::default(),
            holds: Holds::default(),
        }
    }

    /// Routes an event to the parts that it concerns.
    pub(super) fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::DeploymentChanged { key, reviewed } => {
                deployments::sync_deployment(
                    &mut self.pulls,
                    &mut self.lookups,
                    &key,
                    reviewed,
                    turn,
                );
                self.gc.collect_deployment(&self.pulls, &key, turn);
            }
            Event::RolloutChanged(key) => {
                after_ready::begin_when_ready(&mut self.pulls, &key, turn);
                starting_pods::queue_deferred_nodes(&mut self.pulls, &key, turn);
                self.gc.collect_deployment(&self.pulls, &key, turn);
                quotas::on_room_changed(&mut self.pulls, &key.namespace, turn);
                turn.mark_changed(&key);
            }
            Event::QuotaChanged(namespace) => {
                quotas::on_quota_changed(&mut self.pulls, &namespace, turn);
                for key in quotas::deployments_to_collect(&namespace, turn.store) {
                    self.gc.collect_deployment(&self.pulls, &key, turn);
                }
            }
            Event::NodeChanged(name) => {
                image_sizes::learn(&mut self.pulls, &name, turn);
                self.seen_nodes.sync_node(&mut self.pulls, &name, turn);
                leaving_nodes::delete_pods(&mut self.gc, &self.pulls, &name, turn);
            }
            Event::NodeImagesChanged(name) => {
                image_sizes::learn(&mut self.pulls, &name, turn);
                image_sizes::consider_room(&mut self.pulls, &name, turn);
            }
            Event::PodChanged(at) => {
                self.pulls.sharing.wake(&at);
                pull::sync_node(&mut self.pulls, &at, turn);
                progress::watch(&mut self.pulls, &at, turn);
                excess::delete_excess(&mut self.gc, turn);
                kubelets::observe_pods(&mut self.pulls, &at, turn);
                self.gc.collect_node(&self.pulls, &at, turn);
                quotas::on_room_changed(&mut self.pulls, &at.key.namespace, turn);
                if self.holds.is_settling(&at.key) || !turn.store.has_pods(&at.key) {
                    turn.mark_changed(&at.key);
                }
            }
            Event::CommandFinished { id, result } => self.on_command_finished(id, result, turn),
            Event::PermissionChanged(permission) => self.dispatcher.set_permission(permission),
            Event::RegistrationChanged(registered) => self.holds.set_registered(registered, turn),
            Event::Timeout => {
                while let Some(timer) = turn.timers.pop_due(turn.now.monotonic) {
                    self.on_timeout(timer, turn);
                }
            }
        }
    }

    fn on_command_finished(&mut self, id: CommandId, result: CommandResult, turn: &mut Turn<'_>) {
        match result {
            CommandResult::PodCreated(result) => {
                let at =
                    self.dispatcher
                        .creates
                        .on_create_finished(&mut self.pulls, id, result, turn);
                if let Some(at) = at {
                    self.gc.collect_node(&self.pulls, &at, turn);
                }
            }
            CommandResult::PodDeleted(result) => {
                let of_create =
                    self.dispatcher
                        .creates
                        .on_delete_finished(&mut self.pulls, id, &result, turn);
                if !of_create {
                    self.gc.on_delete_finished(id, result, turn);
                }
            }
            CommandResult::Resumed(result) => self.holds.on_resume_finished(id, result, turn),
            CommandResult::PodsListed(result) => {
                if let Some(lookup) = self.lookups.finish(id, &self.pulls, turn) {
                    self.on_pods_listed(lookup, result, turn);
                }
            }
            CommandResult::PodsCounted(result) => {
                pod_slots::on_pods_counted(&mut self.pulls, id, result, turn);
            }
            CommandResult::PullSecretsRead(result) => {
                if let Some(lookup) = self.lookups.finish(id, &self.pulls, turn) {
                    self.on_pull_secrets_read(lookup, result, turn);
                }
            }
        }
    }

    fn on_pods_listed(
        &mut self,
        lookup: Lookup,
        result: Result<BTreeSet<String>, String>,
        turn: &mut Turn<'_>,
    ) {
        match lookup {
            Lookup::RunningPods {
                workload, reviewed, ..
            } => {
                let (pulls, lookups) = (&mut self.pulls, &mut self.lookups);
                let of = (&*workload, reviewed);
                deployments::on_pods_listed(pulls, lookups, of, result, turn);
            }
            Lookup::StartingPods {
                workload, prefetch, ..
            } => {
                let of = (&workload.key, prefetch);
                starting_pods::on_starting_pods_listed(&mut self.pulls, of, result, turn);
            }
            Lookup::PullSecrets { .. } => {}
        }
    }

    fn on_pull_secrets_read(
        &mut self,
        lookup: Lookup,
        result: Result<Vec<String>, String>,
        turn: &mut Turn<'_>,
    ) {
        if let Lookup::PullSecrets {
            key,
            account,
            prefetch,
        } = lookup
        {
            let of = (key, account, prefetch);
            terms::on_pull_secrets_read(&mut self.pulls, of, result, turn);
        }
    }

    /// Goes on without the reads that have waited for too long.
    fn on_lookup_timeout(&mut self, turn: &mut Turn<'_>) {
        while let Some(lookup) = self.lookups.pop_overdue(turn) {
            let error = "too many reads are in flight".to_owned();
            match lookup {
                Lookup::PullSecrets { .. } => self.on_pull_secrets_read(lookup, Err(error), turn),
                Lookup::RunningPods { .. } | Lookup::StartingPods { .. } => {
                    self.on_pods_listed(lookup, Err(error), turn);
                }
            }
        }
    }

    fn on_timeout(&mut self, timer: TimerKey, turn: &mut Turn<'_>) {
        match timer {
            TimerKey::CreateRetry(at) => {
                self.dispatcher
                    .creates
                    .on_retry_due(&mut self.pulls, &at, turn)
            }
            TimerKey::FailedRetry(key) => failed_pulls::retry_failed(&mut self.pulls, &key, turn),
            TimerKey::PullRetry(at) => pull::on_retry_due(&mut self.pulls, &at),
            TimerKey::Expectation(at) => {
                pull::on_expectation_timeout(&mut self.pulls, &at, turn);
                quotas::on_room_changed(&mut self.pulls, &at.key.namespace, turn);
                self.gc.collect_node(&self.pulls, &at, turn);
            }
            TimerKey::PullQuiet(at) => progress::on_quiet(&mut self.pulls, &at),
            TimerKey::PullStalled(at) => progress::on_stalled(&mut self.pulls, &at),
            TimerKey::Silence(at) => kubelets::on_silence(&mut self.pulls, &at, turn),
            TimerKey::Delete(at) => self.gc.on_delete_due(&self.pulls, &at, turn),
            TimerKey::CanaryDone(key, _) => self.pulls.queue.push(&key),
            TimerKey::RefusedUntil(key) => {
                self.pulls.queue.push(&key);
                turn.mark_changed(&key);
            }
            TimerKey::QuotaRecount(namespace) => {
                quotas::on_room_changed(&mut self.pulls, &namespace, turn);
            }
            TimerKey::ListStarting(key) => {
                starting_pods::list_starting_pods(&mut self.pulls, &mut self.lookups, &key, turn);
            }
            TimerKey::DeferralDone(key) => {
                starting_pods::queue_deferred_nodes(&mut self.pulls, &key, turn);
            }
            TimerKey::Refresh(key) => refresh::refresh(&mut self.pulls, &key, turn),
            TimerKey::Gc(key) => {
                self.gc.collect_deployment(&self.pulls, &key, turn);
                turn.mark_changed(&key);
            }
            TimerKey::Lookups => self.on_lookup_timeout(turn),
            TimerKey::PodCounts => self.pulls.pod_counts.forget_old(turn),
            TimerKey::Hold(key) => turn.mark_changed(&key),
        }
    }

    /// Looks at the Deployments that the event changed, and creates pods. Both may change other Deployments.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>) {
        loop {
            marked_nodes::spread(&mut self.pulls, turn);
            while let Some(key) = turn.changed.pop_first() {
                terms::read_pull_secrets(&mut self.pulls, &mut self.lookups, &key, turn);
                self.dispatcher
                    .creates
                    .end_unwanted(&mut self.pulls, &key, turn);
                removal::remove_finished_prefetch(&mut self.pulls, &key, turn);
                removal::stop_timers(&self.pulls, &key, turn);
                self.pulls
                    .starts
                    .observe(&key, self.pulls.prefetches.get(&key));
                self.holds.sync_hold(&self.pulls, &key, turn);
            }
            while let Some(key) = self.pulls.starts.pop() {
                deployments::start_waiting(&mut self.pulls, &mut self.lookups, &key, turn);
            }
            followers::sync_followers(&mut self.pulls, turn);
            self.holds.start_waiting(&self.pulls, turn);
            self.dispatcher.dispatch(&mut self.pulls, turn);
            if turn.changed.is_empty() && self.pulls.is_settled() {
                return;
            }
        }
    }
}
