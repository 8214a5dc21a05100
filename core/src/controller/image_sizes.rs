//! Learns the sizes of images from the nodes that report them, and stops the pulls of images that are too large.

use super::messages;
use super::planning::{consider_node, remove_ineligible};
use super::prefetch::Prefetch;
use super::pulls::Pulls;
use super::turn::Turn;
use crate::event::EventReason;
use crate::scheduling::image_sizes::ImageSizes;
use crate::store::{DeploymentNode, NodeName};
use crate::workload::{DeploymentKey, Workload};

/// Returns the sizes of a Deployment's images that nodes report now.
pub(super) fn known_sizes(workload: &Workload, turn: &Turn<'_>) -> ImageSizes {
    let nodes = turn.store.nodes().map(|record| record.info.as_ref());
    ImageSizes::of(&workload.images, nodes, turn.config.pods.max_image_size)
}

/// Takes over the sizes that a node reports, and stops the pulls of images that turn out to be too large.
pub(super) fn learn(pulls: &mut Pulls, name: &NodeName, turn: &mut Turn<'_>) {
    let Some(record) = turn.store.node(name).cloned() else {
        return;
    };
    let mut changed = Vec::new();
    for (key, prefetch) in &mut pulls.prefetches {
        if prefetch.placement_context.sizes.learn(&record.info) {
            if prefetch.nodes.pending_count() > 0 {
                report_too_large(prefetch, turn);
            }
            changed.push(key.clone());
        }
    }
    for key in changed {
        remove_ineligible(pulls, &key, turn);
        turn.mark_changed(&key);
    }
}

/// Adds a node to the prefetches that it has room for by now: garbage collection may have removed images. Which nodes are chosen of
/// many depends on all nodes, so that is not looked at so often.
pub(super) fn consider_room(pulls: &mut Pulls, name: &NodeName, turn: &mut Turn<'_>) {
    let Some(record) = turn.store.node(name).cloned() else {
        return;
    };
    let considers = |prefetch: &Prefetch| {
        let limits_nodes = prefetch.workload.annotations.max_nodes.is_some();
        !limits_nodes && prefetch.placement_context.sizes != ImageSizes::default()
    };
    let prefetches = pulls.prefetches.iter();
    let considering = prefetches.filter(|(_, prefetch)| considers(prefetch));
    let keys: Vec<DeploymentKey> = considering.map(|(key, _)| key.clone()).collect();
    for key in keys {
        let node = name.clone();
        consider_node(pulls, &DeploymentNode { key, node }, &record, turn);
    }
}

/// Reports once that an image is too large for the nodes that lack it.
pub(super) fn report_too_large(prefetch: &mut Prefetch, turn: &mut Turn<'_>) {
    let Some(too_large) = prefetch.placement_context.sizes.too_large() else {
        return;
    };
    if prefetch.reports.take_node_fault("ImageTooLarge") {
        let note = messages::image_too_large(too_large);
        prefetch.reports.last_error = Some(note.clone());
        let reason = EventReason::ImageNotPrefetched;
        turn.out
            .event(&prefetch.workload, reason, too_large.image, note);
    }
}
