//! Deletes the finished pods that ended first, if there are too many in the cluster.

use super::gc::Gc;
use super::turn::Turn;
use crate::store::DeploymentNode;

/// Deletes the pods beyond the limit.
pub(super) fn delete_excess(gc: &mut Gc, turn: &mut Turn<'_>) {
    let most = turn.config.limits.ended;
    let ended = turn.store.ended_pod_count();
    let excess = ended.saturating_sub(most + gc.deleting());
    if most == 0 || excess == 0 {
        return;
    }
    let mut due = Vec::new();
    for (id, pod) in turn.store.ended_pods() {
        let at = DeploymentNode {
            key: id.key.clone(),
            node: pod.node.clone(),
        };
        // A refresh needs to know when it last pulled.
        let workload = turn.store.enabled(&id.key);
        let refreshes = workload.is_some_and(|workload| turn.refresh_interval(workload).is_some());
        if !refreshes && !gc.is_deleting(&at, &pod.uid) {
            due.push((at, pod.name.clone(), pod.uid.clone()));
        }
        if due.len() == excess {
            break;
        }
    }
    for (at, name, uid) in due {
        gc.delete(&at, name, uid, turn);
    }
}
