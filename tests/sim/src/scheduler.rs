//! The scheduler: it binds the prefetch pods that name no node, where the node has a free slot.

use headstart_core::pod::node_of;
use serde_json::json;

use crate::api_server::{LogEntry, Object, ObjectKey, is_finished, is_terminating};
use crate::cluster::{Cluster, POD_SLOTS};
use crate::queue::Step;

/// How long a pod that cannot be bound waits for the next attempt, in milliseconds.
const RETRY: u64 = 5000;

/// Takes a change of a pod.
pub(crate) fn on_change(change: &LogEntry, cluster: &mut Cluster) {
    if !change.deleted
        && waits(&change.object)
        && change.object.value["status"]["conditions"].is_null()
    {
        let delay = cluster.draw(&["schedule", change.object.uid()]);
        let step = Step::BindPod(change.key.clone(), change.object.uid().to_owned());
        cluster.queue.after({ delay }.within(10..=500), step);
    }
}

/// Binds a pod to the node that it is for.
pub(crate) fn bind(key: &ObjectKey, uid: &str, cluster: &mut Cluster) {
    let again = Step::BindPod(key.clone(), uid.to_owned());
    if !cluster.is_api_up() {
        let back = cluster.api_down_until;
        cluster.queue.at(back + 100, again);
        return;
    }
    let Ok(pod) = cluster.api.get(key) else {
        return;
    };
    let node = node_of(pod.pod()).unwrap_or_default().to_owned();
    if pod.uid() != uid || !waits(&pod) || cluster.node_uid(&node).is_none() {
        return;
    }
    if cluster.pods_on(&node) < POD_SLOTS {
        cluster.count("scheduler: bound");
        let _ = cluster
            .api
            .patch(key, &json!({"spec": {"nodeName": node}}), "scheduler");
        return;
    }
    cluster.count("scheduler: too many pods");
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Too many pods.",
    });
    let _ = cluster
        .api
        .patch_status(key, &json!({"conditions": [condition]}));
    cluster.queue.after(RETRY, again);
}

/// Returns whether a pod is to be bound.
fn waits(pod: &Object) -> bool {
    let spec = &pod.value["spec"];
    spec["nodeName"].is_null()
        && spec["affinity"].is_object()
        && !is_finished(&pod.value)
        && !is_terminating(&pod.value)
}
