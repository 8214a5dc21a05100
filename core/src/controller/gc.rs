//! Deletes prefetch pods that are no longer needed, and those that are in the way.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::backoff;
use super::command::{Command, CommandId, WriteError};
use super::expiry::{expires_at, is_in_the_way, retention};
use super::log::LogLine;
use super::pulls::Pulls;
use super::quotas::must_go;
use super::stuck_pods::StuckPods;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::store::{DeploymentNode, PrefetchPod};
use crate::time::Instant;
use crate::workload::{DeploymentKey, Workload};

/// The time after a delete was requested. A pod that is still there then is deleted again.
const DELETE_AGAIN: Duration = Duration::from_secs(120);
/// The time for which a node with a create in flight is left alone, unless the create succeeds before.
const CREATE_PAUSE: Duration = Duration::from_secs(10);
/// The longest time between two looks at a Deployment's pods that wait for their expiry: the wall clock may be set.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A pod whose deletion was asked for.
#[derive(Debug)]
struct Deletion {
    name: String,
    /// The number of times that the delete was sent.
    attempts: u32,
    state: DeletionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeletionState {
    /// The delete waits until fewer others are in flight.
    Queued,
    /// The delete is in flight.
    InFlight,
    /// The delete failed in a way that may pass, and is sent again then.
    RetryAt(Instant),
    /// The delete is answered, and is forgotten then if the pod is still there.
    SentUntil(Instant),
}

/// The deletions that are not confirmed by the watch.
#[derive(Debug, Default)]
pub(super) struct Gc {
    /// By the UID of the pod.
    deletions: BTreeMap<DeploymentNode, BTreeMap<String, Deletion>>,
    in_flight: BTreeMap<CommandId, (DeploymentNode, String)>,
    waiting: VecDeque<(DeploymentNode, String)>,
    stuck: StuckPods,
}

impl Gc {
    /// Deletes the pods of a Deployment that are no longer needed, and sets a timer for the next one.
    pub(super) fn collect_deployment(
        &mut self,
        pulls: &Pulls,
        key: &DeploymentKey,
        turn: &mut Turn<'_>,
    ) {
        turn.timers.stop(&TimerKey::Gc(key.clone()));
        for node in turn.store.nodes_with_pods(key) {
            let key = key.clone();
            self.collect_node(pulls, &DeploymentNode { key, node }, turn);
        }
    }

    /// Deletes the pods on a node that are no longer needed, and sets a timer for the next one.
    pub(super) fn collect_node(&mut self, pulls: &Pulls, at: &DeploymentNode, turn: &mut Turn<'_>) {
        self.forget_missing(at, turn);
        let now = turn.now.monotonic;
        let pods = turn.store.pods_on_node(&at.key, &at.node);
        self.stuck.observe(at, &pods, now);
        // If the pod were deleted now, the expectation would never be met. The node is looked at again when a
        // pod is created, or after a pause.
        if pulls.expectations.is_create_in_flight(at) {
            let again = now + CREATE_PAUSE;
            turn.timers
                .set_at_latest(TimerKey::Gc(at.key.clone()), again);
            return;
        }
        let workload = turn.store.enabled(&at.key).cloned();
        let mut next: Option<Instant> = None;
        let mut due: Vec<(String, String)> = Vec::new();
        for pod in pods {
            let expires = if must_go(pulls, at, pod, turn) {
                Some(now)
            } else {
                self.due_at(at, pod, workload.as_deref(), turn)
            };
            let Some(expires) = expires else {
                continue;
            };
            if expires > now {
                next = next.into_iter().chain([expires]).min();
            } else if !self.is_deleting(at, &pod.uid) {
                due.push((pod.name.clone(), pod.uid.clone()));
            }
        }
        if let Some(next) = next {
            let next = next.min(now + LONGEST_PAUSE);
            turn.timers
                .set_at_latest(TimerKey::Gc(at.key.clone()), next);
        }
        if due.is_empty() {
            return;
        }
        turn.out.logs.push(LogLine::DeletingPods {
            at: at.clone(),
            pods: due.len(),
        });
        for (name, uid) in due {
            self.delete(at, name, uid, turn);
        }
    }

    /// Returns when a pod is to be deleted, if nothing changes before.
    fn due_at(
        &self,
        at: &DeploymentNode,
        pod: &PrefetchPod,
        workload: Option<&Workload>,
        turn: &Turn<'_>,
    ) -> Option<Instant> {
        let now = turn.now;
        if is_in_the_way(&at.node, pod, turn) {
            return Some(now.monotonic);
        }
        let refresh = workload.and_then(|workload| turn.refresh_interval(workload));
        let expires = expires_at(workload, pod, retention(&at.node, turn), refresh);
        let expires = expires.map(|expires| {
            if expires <= now.wall {
                now.monotonic
            } else {
                now.at_wall(expires)
            }
        });
        let stuck = self.stuck.due_at(at, &pod.uid);
        expires.into_iter().chain(stuck).min()
    }

    /// Returns the number of nodes of Deployments where pods are being deleted.
    pub(super) fn deleting(&self) -> usize {
        self.deletions.len()
    }

    pub(super) fn is_deleting(&self, at: &DeploymentNode, uid: &str) -> bool {
        let deletions = self.deletions.get(at);
        deletions.is_some_and(|deletions| deletions.contains_key(uid))
    }

    /// Deletes a pod.
    pub(super) fn delete(
        &mut self,
        at: &DeploymentNode,
        name: String,
        uid: String,
        turn: &mut Turn<'_>,
    ) {
        let deletion = Deletion {
            name,
            attempts: 0,
            state: DeletionState::Queued,
        };
        let deletions = self.deletions.entry(at.clone()).or_default();
        deletions.insert(uid.clone(), deletion);
        self.waiting.push_back((at.clone(), uid));
        self.send_waiting(turn);
    }

    /// Sends deletes as long as there is room: a quarter of what creates have, because nothing waits for them.
    fn send_waiting(&mut self, turn: &mut Turn<'_>) {
        while self.in_flight.len() < turn.config.max_writes.div_ceil(4) {
            let Some((at, uid)) = self.waiting.pop_front() else {
                return;
            };
            let deletions = self.deletions.get_mut(&at);
            let Some(deletion) = deletions.and_then(|deletions| deletions.get_mut(&uid)) else {
                continue;
            };
            deletion.attempts += 1;
            deletion.state = DeletionState::InFlight;
            let id = turn.command_id();
            turn.out.commands.push(Command::DeletePod {
                id,
                namespace: at.key.namespace.clone(),
                name: deletion.name.clone(),
                uid: uid.clone(),
            });
            self.in_flight.insert(id, (at, uid));
        }
    }

    /// Takes the answer to a delete.
    pub(super) fn on_delete_finished(
        &mut self,
        id: CommandId,
        result: Result<(), WriteError>,
        turn: &mut Turn<'_>,
    ) {
        let Some((at, uid)) = self.in_flight.remove(&id) else {
            return;
        };
        self.send_waiting(turn);
        let deletions = self.deletions.get_mut(&at);
        let Some(deletion) = deletions.and_then(|deletions| deletions.get_mut(&uid)) else {
            return;
        };
        let now = turn.now.monotonic;
        let retry_after = match &result {
            Err(WriteError::Unavailable { retry_after, .. }) => Some(*retry_after),
            Err(WriteError::Unknown(_)) => Some(None),
            _ => None,
        };
        let (state, due) = match retry_after {
            Some(asked) if deletion.attempts < backoff::WRITE_ATTEMPTS => {
                let due = now + backoff::write_delay(deletion.attempts, asked);
                (DeletionState::RetryAt(due), due)
            }
            _ => {
                let due = now + DELETE_AGAIN;
                (DeletionState::SentUntil(due), due)
            }
        };
        deletion.state = state;
        turn.timers.set_at_latest(TimerKey::Delete(at.clone()), due);
        if let (Err(error), DeletionState::SentUntil(_)) = (result, state)
            && !error.is_end_of_lease()
        {
            turn.out.logs.push(LogLine::DeleteFailed {
                at,
                pod: deletion.name.clone(),
                error: error.message().to_owned(),
            });
        }
    }

    /// Sends the deletes on a node again that are due, and forgets those that had time enough to show.
    pub(super) fn on_delete_due(
        &mut self,
        pulls: &Pulls,
        at: &DeploymentNode,
        turn: &mut Turn<'_>,
    ) {
        let now = turn.now.monotonic;
        let mut next: Option<Instant> = None;
        if let Some(deletions) = self.deletions.get_mut(at) {
            let waiting = &mut self.waiting;
            deletions.retain(|uid, deletion| match deletion.state {
                DeletionState::RetryAt(due) if due <= now => {
                    deletion.state = DeletionState::Queued;
                    waiting.push_back((at.clone(), uid.clone()));
                    true
                }
                DeletionState::SentUntil(due) if due <= now => false,
                DeletionState::RetryAt(due) | DeletionState::SentUntil(due) => {
                    next = next.into_iter().chain([due]).min();
                    true
                }
                DeletionState::Queued | DeletionState::InFlight => true,
            });
        }
        if let Some(next) = next {
            turn.timers.set(TimerKey::Delete(at.clone()), next);
        }
        self.send_waiting(turn);
        self.collect_node(pulls, at, turn);
    }

    /// Forgets the deletions of pods that are gone.
    fn forget_missing(&mut self, at: &DeploymentNode, turn: &mut Turn<'_>) {
        let Some(deletions) = self.deletions.get_mut(at) else {
            return;
        };
        let pods = turn.store.pods_on_node(&at.key, &at.node);
        deletions.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        if deletions.is_empty() {
            self.deletions.remove(at);
            turn.timers.stop(&TimerKey::Delete(at.clone()));
        }
    }
}
