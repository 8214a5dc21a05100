//! The creates that are not finished: their requests, attempts and answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::backoff;
use super::command::{Command, CommandId, WriteError};
use super::log::LogLine;
use super::planning::current_method;
use super::prefetch::StoredDeployment;
use super::pull::{schedule_retry, sync_node};
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::refusal::on_create_refused;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::store::DeploymentNode;
use crate::workload::DeploymentKey;

/// A create that is not finished: a pod by the same name may have to be deleted first, and attempts may fail.
#[derive(Debug)]
pub(super) struct Create {
    /// The prefetch that it is for.
    pub(super) prefetch: u64,
    /// The architecture group of the node.
    pub(super) group: usize,
    pub(super) at: DeploymentNode,
    pub(super) pod: Arc<Pod>,
    /// The UID of the pod to delete first.
    pub(super) replaces: Option<String>,
    /// The number of times that the current request was sent.
    pub(super) attempts: u32,
    /// The time at which the terms last changed before the pod was made. With other terms it is another pod.
    pub(super) terms_changed_at: Option<Timestamp>,
}

/// The creates that are not finished.
#[derive(Debug, Default)]
pub(super) struct Creates {
    in_flight: BTreeMap<CommandId, Create>,
    /// Those that wait for their next attempt.
    waiting: BTreeMap<DeploymentNode, Create>,
}

impl Creates {
    /// Returns how many creates are not finished.
    pub(super) fn len(&self) -> usize {
        self.in_flight.len() + self.waiting.len()
    }

    /// Sends the next request of a create.
    pub(super) fn send(&mut self, mut create: Create, turn: &mut Turn<'_>) {
        create.attempts += 1;
        let id = turn.command_id();
        let command = match &create.replaces {
            Some(uid) => Command::DeletePod {
                id,
                namespace: create.at.key.namespace.clone(),
                name: create.pod.metadata.name.clone().unwrap_or_default(),
                uid: uid.clone(),
            },
            None => Command::CreatePod {
                id,
                pod: create.pod.clone(),
            },
        };
        turn.out.commands.push(command);
        self.in_flight.insert(id, create);
    }

    /// Continues a create whose pod to be replaced is gone, or was not deleted. Returns false if the delete was not part of
    /// a create.
    pub(super) fn on_delete_finished(
        &mut self,
        pulls: &mut Pulls,
        id: CommandId,
        result: &Result<(), WriteError>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(mut create) = self.in_flight.remove(&id) else {
            return false;
        };
        match result {
            Ok(()) => {
                create.replaces = None;
                create.attempts = 0;
                if is_wanted(pulls, &create, turn) {
                    self.send(create, turn);
                } else {
                    self.finish(pulls, create, Err(None), turn);
                }
            }
            Err(error) => self.on_error(pulls, create, error.clone(), turn),
        }
        true
    }

    /// Takes the answer to a create. Returns where a pod was created.
    pub(super) fn on_create_finished(
        &mut self,
        pulls: &mut Pulls,
        id: CommandId,
        result: Result<Option<String>, WriteError>,
        turn: &mut Turn<'_>,
    ) -> Option<DeploymentNode> {
        let create = self.in_flight.remove(&id)?;
        match result {
            Ok(uid) => {
                let at = create.at.clone();
                self.finish(pulls, create, Ok(uid), turn);
                Some(at)
            }
            Err(error) => {
                self.on_error(pulls, create, error, turn);
                None
            }
        }
    }

    /// Sends a request again whose pause is over, unless its pod is no longer wanted.
    pub(super) fn on_retry_due(
        &mut self,
        pulls: &mut Pulls,
        at: &DeploymentNode,
        turn: &mut Turn<'_>,
    ) {
        let Some(create) = self.waiting.remove(at) else {
            return;
        };
        if is_done(pulls, &create, turn) {
            self.finish(pulls, create, Ok(None), turn);
        } else if is_wanted(pulls, &create, turn) {
            self.send(create, turn);
        } else {
            self.finish(pulls, create, Err(None), turn);
        }
    }

    /// Takes a failed attempt: it is repeated after a pause if that can help.
    fn on_error(
        &mut self,
        pulls: &mut Pulls,
        create: Create,
        error: WriteError,
        turn: &mut Turn<'_>,
    ) {
        let retry_after = match &error {
            WriteError::Refused { .. } => {
                return self.finish(pulls, create, Err(Some(error)), turn);
            }
            WriteError::Unavailable { retry_after, .. } => *retry_after,
            // Without the lease the term ends soon; until then nothing is sent without a pause.
            WriteError::Unknown(_) | WriteError::NotLeader | WriteError::LeaseEnded => None,
        };
        if is_done(pulls, &create, turn) {
            return self.finish(pulls, create, Ok(None), turn);
        }
        if !is_wanted(pulls, &create, turn) {
            return self.finish(pulls, create, Err(None), turn);
        }
        if create.attempts >= backoff::WRITE_ATTEMPTS {
            return self.finish(pulls, create, Err(Some(error)), turn);
        }
        turn.out.logs.push(LogLine::CreateFailed {
            at: create.at.clone(),
            error: error.message().to_owned(),
            retried: true,
        });
        let pause = backoff::write_delay(create.attempts, retry_after);
        let retry = TimerKey::CreateRetry(create.at.clone());
        turn.timers.set(retry, turn.now.monotonic + pause);
        self.waiting.insert(create.at.clone(), create);
    }

    /// Ends a create. `Err(None)` says that its pod was no longer wanted.
    fn finish(
        &mut self,
        pulls: &mut Pulls,
        create: Create,
        result: Result<Option<String>, Option<WriteError>>,
        turn: &mut Turn<'_>,
    ) {
        let now = turn.now.monotonic;
        let Create { at, group, .. } = &create;
        pulls.sharing.wake(at);
        let prefetch = pulls.prefetches.get_mut(&at.key);
        // The group that it was sent in: the node may be gone by now, and the others wait for this answer.
        let opens = prefetch
            .filter(|prefetch| prefetch.id == create.prefetch)
            .and_then(|prefetch| {
                if result.is_ok() {
                    prefetch.refusals.count = 0;
                }
                prefetch.nodes.groups[*group].gate.on_create_finished(now)
            });
        if let Some(opens) = opens {
            let done = TimerKey::CanaryDone(at.key.clone(), *group);
            turn.timers.set(done, opens);
        }
        let error = match result {
            Ok(uid) => {
                if let Some(timeout) = pulls.expectations.observed_create(at, uid, now) {
                    turn.timers.set(TimerKey::Expectation(at.clone()), timeout);
                }
                sync_node(pulls, at, turn);
                turn.mark_changed(&at.key);
                return;
            }
            Err(error) => error,
        };
        let state = pulls.state(at);
        pulls.clear_expectation(at);
        // In another state, the images or the node have changed meanwhile.
        if state != Some(PullState::Created) {
            return;
        }
        match error {
            Some(WriteError::Refused { message, .. }) => {
                on_create_refused(pulls, at, &message, turn);
            }
            None => pulls.enqueue(at),
            Some(error) => {
                turn.out.logs.push(LogLine::CreateFailed {
                    at: at.clone(),
                    error: error.message().to_owned(),
                    retried: false,
                });
                schedule_retry(pulls, at, &[], turn);
            }
        }
    }

    /// Ends the creates of a Deployment that wait for their next attempt and are no longer wanted.
    pub(super) fn end_unwanted(
        &mut self,
        pulls: &mut Pulls,
        key: &DeploymentKey,
        turn: &mut Turn<'_>,
    ) {
        let first = DeploymentNode {
            key: key.clone(),
            node: Arc::default(),
        };
        let of_key = self.waiting.range(first..);
        let unwanted: Vec<DeploymentNode> = of_key
            .take_while(|(at, _)| at.key == *key)
            .filter(|(_, create)| !is_wanted(pulls, create, turn))
            .map(|(at, _)| at.clone())
            .collect();
        for at in unwanted {
            turn.timers.stop(&TimerKey::CreateRetry(at.clone()));
            self.on_retry_due(pulls, &at, turn);
        }
    }

    /// Returns whether a create for a node is not finished.
    pub(super) fn has_create(&self, at: &DeploymentNode) -> bool {
        self.waiting.contains_key(at) || self.in_flight.values().any(|create| create.at == *at)
    }
}

/// Returns whether the pod of a create is visible, although no answer says that it was created.
fn is_done(pulls: &Pulls, create: &Create, turn: &Turn<'_>) -> bool {
    let at = &create.at;
    let pods = turn.store.pods_on_node(&at.key, &at.node);
    create.replaces.is_none() && pulls.expectations.is_visible(at, &pods)
}

/// Returns whether the pod of a create is still wanted: by the same prefetch, on the same terms, on the same node. In any other
/// state than `Created` the node is gone, or is another by the same name. A node may also have become ineligible.
fn is_wanted(pulls: &Pulls, create: &Create, turn: &Turn<'_>) -> bool {
    let at = &create.at;
    let prefetch = pulls.prefetches.get(&at.key);
    pulls.state(at) == Some(PullState::Created)
        && prefetch.is_some_and(|prefetch| {
            prefetch.id == create.prefetch
                && prefetch.terms_changed_at() == create.terms_changed_at
                && matches!(prefetch.compare(turn.store), StoredDeployment::Same)
        })
        && current_method(pulls, at, turn).is_some()
}
