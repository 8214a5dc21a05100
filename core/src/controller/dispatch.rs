//! Decides which prefetch pods are created, in which order and within which limits.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::budget::LimitReached;
use super::command::CreatePermission;
use super::creates::{Create, Creates};
use super::planning::current_method;
use super::pod_slots::{PodSlot, count_ahead, find_slot};
use super::prefetch::{PullSet, StoredDeployment};
use super::progress;
use super::pull::{on_node_finished, sync_node};
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::quotas::{find_room, fit_limit_ranges};
use super::refusal::on_create_refused;
use super::shared_pulls::{follow, shared_pulls, wait_for_other_namespace};
use super::terms::update_pull_terms;
use super::turn::Turn;
use crate::api::well_known::REVISION_LABEL;
use crate::evidence::{NodeImages, images_on_node};
use crate::limits::POD_BYTES;
use crate::pod::{NodeBinding, pod_name, prefetch_pod};
use crate::resource_quota::QuotaRoom;
use crate::scheduling::node::PullMethod;
use crate::store::DeploymentNode;
use crate::workload::DeploymentKey;

/// The creates that are not finished, and whether pods may be created at all.
#[derive(Debug, Default)]
pub(super) struct Dispatcher {
    pub(super) creates: Creates,
    permission: CreatePermission,
}

/// The result of one turn in the queue.
enum DispatchOutcome {
    /// A create was sent, or the read that it needs.
    Sent,
    /// Not to this node now; perhaps to another.
    SkipNode,
    /// None at all now.
    Stop,
}

impl Dispatcher {
    /// Sets whether pods may be created.
    pub(super) fn set_permission(&mut self, permission: CreatePermission) {
        self.permission = permission;
    }

    /// Returns whether creates wait for the permission, which is not known yet.
    pub(super) fn is_waiting_for_permission(&self) -> bool {
        self.permission == CreatePermission::Unknown
    }

    /// Creates pods as long as there is something to send and room for it.
    pub(super) fn dispatch(&mut self, pulls: &mut Pulls, turn: &mut Turn<'_>) {
        if self.permission == CreatePermission::Unknown {
            return;
        }
        while self.creates.len() < turn.config.max_writes && pulls.has_capacity() {
            let Some(key) = pulls.queue.pop() else { break };
            if self.dispatch_next(pulls, &key, turn) {
                pulls.queue.push(&key);
            }
        }
        if self.permission == CreatePermission::Granted {
            count_ahead(pulls, turn);
        }
    }

    /// Creates one pod of a Deployment. Returns whether it may have more to send now; if not, what changes that queues it
    /// again.
    fn dispatch_next(
        &mut self,
        pulls: &mut Pulls,
        key: &DeploymentKey,
        turn: &mut Turn<'_>,
    ) -> bool {
        let now = turn.now.monotonic;
        let Some(prefetch) = pulls.prefetches.get_mut(key) else {
            return false;
        };
        // The store is ahead of the events: the event that says so follows, and begins the next prefetch.
        match prefetch.compare(turn.store) {
            StoredDeployment::Same => {}
            StoredDeployment::OtherTerms(stored) => {
                update_pull_terms(pulls, stored, turn);
                return true;
            }
            StoredDeployment::Other => {
                pulls.cancel_prefetch(key);
                turn.mark_changed(key);
                return false;
            }
        }
        if prefetch.refusals.blocks(now) || prefetch.pull_secrets.names.is_none() {
            return false;
        }
        for group in prefetch.dispatchable_groups(now) {
            loop {
                let Some(prefetch) = pulls.prefetches.get_mut(key) else {
                    return false;
                };
                let Some(node) = prefetch.nodes.groups[group].ready.pop_front() else {
                    break;
                };
                let key = key.clone();
                let at = DeploymentNode { key, node };
                match self.try_create(pulls, &at, group, turn) {
                    DispatchOutcome::Sent => return true,
                    DispatchOutcome::SkipNode => {}
                    DispatchOutcome::Stop => return false,
                }
            }
        }
        false
    }

    fn try_create(
        &mut self,
        pulls: &mut Pulls,
        at: &DeploymentNode,
        group: usize,
        turn: &mut Turn<'_>,
    ) -> DispatchOutcome {
        let DeploymentNode { key, node } = at;
        // The previous image set's pod may not be visible yet. `sync_node` queues the node again when it is.
        if pulls.state(at) != Some(PullState::Pending) || pulls.expectations.contains(at) {
            return DispatchOutcome::SkipNode;
        }
        let Some(images) = images_to_pull(pulls, at, turn) else {
            return DispatchOutcome::SkipNode;
        };
        if let CreatePermission::Refused(reason) = &self.permission {
            on_create_refused(pulls, at, reason, turn);
            return DispatchOutcome::Stop;
        }
        let Some(prefetch) = pulls.prefetches.get_mut(key) else {
            return DispatchOutcome::Stop;
        };
        let set = prefetch.pull_set(&images);
        let Some(method) = current_method(pulls, at, turn) else {
            // The node is gone, or no longer eligible. If it becomes eligible again, it is added again.
            if let Some(prefetch) = pulls.prefetches.get_mut(key) {
                prefetch.nodes.remove(node);
            }
            on_node_finished(pulls, key, turn);
            return DispatchOutcome::SkipNode;
        };
        match find_room(pulls, &set.workload, at, method, turn) {
            QuotaRoom::Free => {}
            QuotaRoom::Taken => {
                if let Some(prefetch) = pulls.prefetches.get_mut(key) {
                    prefetch.nodes.requeue_front(node);
                }
                return DispatchOutcome::Stop;
            }
            QuotaRoom::None(message) => {
                on_create_refused(pulls, at, &message, turn);
                return DispatchOutcome::Stop;
            }
        }
        let binding = match find_slot(pulls, at, turn) {
            PodSlot::Free(binding) => binding,
            PodSlot::ReadSent => return DispatchOutcome::Sent,
            PodSlot::None | PodSlot::Unknown => return DispatchOutcome::SkipNode,
            PodSlot::NoPlace => {
                if let Some(prefetch) = pulls.prefetches.get_mut(key) {
                    prefetch.nodes.requeue_front(node);
                }
                return DispatchOutcome::Stop;
            }
        };
        match pulls.reserve_slot(at, &set.registries) {
            Ok(()) => progress::watch(pulls, at, turn),
            Err(LimitReached::Node) => return DispatchOutcome::SkipNode,
            Err(LimitReached::Registry | LimitReached::Cluster) => {
                if let Some(prefetch) = pulls.prefetches.get_mut(key) {
                    prefetch.nodes.requeue_front(node);
                }
                return DispatchOutcome::Stop;
            }
        }
        let name = pod_name(&set.workload, node);
        let pods = turn.store.pods_on_node(key, node);
        let replaces = pods.into_iter().find(|pod| pod.name == name);
        let replaces = replaces.map(|pod| pod.uid.clone());
        let Some(prefetch) = pulls.prefetches.get_mut(key) else {
            return DispatchOutcome::Stop;
        };
        let revision = prefetch.workload.image_set.to_string();
        let pod = match build_pod(&set, at, (method, binding), revision, turn) {
            Ok(pod) => pod,
            Err(message) => {
                pulls.release_slot(at);
                on_create_refused(pulls, at, &message, turn);
                return DispatchOutcome::Stop;
            }
        };
        let create = Create {
            prefetch: prefetch.id,
            group,
            at: at.clone(),
            pod,
            replaces: replaces.clone(),
            attempts: 0,
            terms_changed_at: prefetch.terms_changed_at(),
        };
        prefetch.nodes.transition(node, PullState::Created);
        if let Some(pull) = prefetch.nodes.get_mut(node) {
            pull.create_requested = true;
        }
        prefetch.nodes.groups[group].gate.on_create_sent();
        pulls
            .expectations
            .expect_pod(at, name, replaces, set.workload);
        self.creates.send(create, turn);
        DispatchOutcome::Sent
    }
}

/// Returns the images that a node lacks; `None` if it lacks none, or gets them from a pod that there is or that is being
/// created.
fn images_to_pull(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    turn: &mut Turn<'_>,
) -> Option<Vec<usize>> {
    let shared = shared_pulls(pulls, at, turn);
    let prefetch = pulls.prefetches.get(&at.key)?;
    let pods = turn.store.pods_on_node(&at.key, &at.node);
    let refresh = turn.refresh_interval(&prefetch.workload);
    let window = prefetch.evidence_window(&at.node, refresh, turn.now.wall);
    let images = images_on_node(&prefetch.workload, &pods, &shared.pods, window);
    let NodeImages::Missing { images, .. } = images else {
        sync_node(pulls, at, turn);
        return None;
    };
    let images = shared.without_expected(&prefetch.workload, images);
    if images.is_empty() {
        follow(pulls, at, &shared);
        return None;
    }
    (!wait_for_other_namespace(pulls, at, &images)).then_some(images)
}

/// Returns the pod. Its name is that of the images it pulls, its label that of the image set it is for.
///
/// # Errors
/// Says why the API server would refuse it, or why it is not to be created.
fn build_pod(
    set: &PullSet,
    at: &DeploymentNode,
    (method, binding): (PullMethod, NodeBinding),
    revision: String,
    turn: &Turn<'_>,
) -> Result<Arc<Pod>, String> {
    let settings = turn.config.pods.with_binding(binding);
    let mut pod = prefetch_pod(&set.workload, &at.node, method, &settings);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), revision);
    fit_limit_ranges(&mut pod, &at.key.namespace, turn.store)?;
    check_size(&pod)?;
    Ok(Arc::new(pod))
}

fn check_size(pod: &Pod) -> Result<(), String> {
    let bytes = serde_json::to_vec(pod).map_or(0, |json| json.len());
    if bytes <= POD_BYTES {
        return Ok(());
    }
    Err(format!(
        "the pod takes {bytes} bytes, and more than {POD_BYTES} are not created"
    ))
}
