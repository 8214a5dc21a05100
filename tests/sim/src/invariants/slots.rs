//! The invariant of pod slots: prefetch pods do not take the last slots of a node.

use std::rc::Rc;

use headstart_core::controller::command::Command;
use headstart_core::pod::node_of;
use headstart_core::store::PrefetchPod;
use k8s_openapi::api::core::v1::Pod;

use super::Violation;
use crate::cluster::POD_SLOTS;
use crate::term::{PodCount, Surroundings, instant};

/// For how long a count holds, in milliseconds.
const MAX_AGE: u64 = 60_000;
/// The slots that are left to other pods.
const RESERVED: u64 = 2;
/// With fewer free slots the scheduler binds.
const SCARCE: u64 = 4;

/// Checks that a pod does not take one of the last two slots that were free when the sender had the node counted, and that it
/// takes the two before only through the scheduler (S20).
///
/// # Errors
/// Names the pod.
pub(super) fn check_slots<'a>(
    pod: &Pod,
    running: impl Iterator<Item = &'a Rc<Command>>,
    counts: impl Fn(&str) -> Option<PodCount>,
    around: &Surroundings<'_>,
) -> Result<(), Violation> {
    let Some(node) = node_of(pod) else {
        return Ok(());
    };
    let now = around.cluster.now();
    let Some(count) = counts(node).filter(|count| now < count.at + MAX_AGE) else {
        return Ok(());
    };
    let creating = running.filter(|command| match &***command {
        Command::CreatePod { pod, .. } => node_of(pod) == Some(node),
        _ => false,
    });
    let counted_at = around.cluster.wall_at(count.at);
    let mut own = u64::try_from(creating.count()).unwrap_or(u64::MAX);
    for key in around.store.deployments_with_pods() {
        let pods = around.store.pods_on_node(key, node).into_iter();
        let is_there = |pod: &&PrefetchPod| pod.outcome.acknowledged && pod.outcome.ended.is_none();
        let since = pods.filter(|pod| is_there(pod) && pod.created > Some(counted_at));
        own += u64::try_from(since.count()).unwrap_or(u64::MAX);
    }
    let free = POD_SLOTS.saturating_sub(u64::from(count.pods) + own);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let is_bound = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.is_some());
    if free <= RESERVED || free < SCARCE && is_bound {
        let detail = format!(
            "{node} had {} pods at {:?}, {own} came from headstart since; bound: {is_bound}",
            count.pods,
            instant(count.at)
        );
        return Err(Violation::new("S20 pod slots", &name, &detail));
    }
    Ok(())
}
