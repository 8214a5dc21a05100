//! Looks up the images on nodes when a write is admitted.

use crate::evidence::{EvidenceWindow, NodeImages, images_on_node};
use crate::hold::ImagePresence;
use crate::plan::{PlacementContext, plan};
use crate::pod::PodSettings;
use crate::scheduling::image_sizes::ImageSizes;
use crate::store::{NodeRecord, NodeSnapshot, PrefetchPod};
use crate::workload::Workload;

/// The most nodes that a review looks at: callers decide how often this runs.
const MAX_NODES: usize = 1000;

/// Returns whether the images of a write are on every node that a prefetch would choose, by the Deployment's prefetch pods
/// and by what the nodes report. A review is read for its images only; the stored object says where they go. In a cluster
/// of more than [`MAX_NODES`] nodes the answer is `Unknown`. `pods_on` returns the Deployment's prefetch pods on a node.
pub fn image_presence(
    reviewed: &Workload,
    stored: &Workload,
    nodes: &NodeSnapshot,
    pods_on: impl Fn(&str) -> Vec<PrefetchPod>,
    settings: &PodSettings,
) -> ImagePresence {
    // It is not known where the pods of a Deployment that is too large may land.
    if stored.too_large.is_some() {
        return ImagePresence::Unknown;
    }
    // Which nodes are chosen out of many depends on where the Deployment's pods are, which no watch brings.
    if reviewed.annotations.max_nodes.is_some() || nodes.len() > MAX_NODES {
        return ImagePresence::Unknown;
    }
    let workload = &Workload {
        images: reviewed.images.clone(),
        image_set: reviewed.image_set.clone(),
        annotations: reviewed.annotations.clone(),
        ..stored.clone()
    };
    let settings = &PodSettings {
        filter: settings.filter.for_hold(),
        ..settings.clone()
    };
    let infos = || nodes.values().map(|node| node.info.as_ref());
    let context = PlacementContext {
        sizes: ImageSizes::of(&workload.images, infos(), settings.max_image_size),
        ..PlacementContext::default()
    };
    let targets = plan(workload, infos(), &context, settings).nodes;
    if targets.is_empty() {
        return ImagePresence::NoEligibleNode;
    }
    let has_all = |node: &NodeRecord| {
        node.reports_all_images(workload) || {
            let pods = pods_on(node.name());
            let window = EvidenceWindow {
                node_created_at: node.created,
                ..EvidenceWindow::default()
            };
            let pods: Vec<&PrefetchPod> = pods.iter().collect();
            images_on_node(workload, &pods, &[], window) == NodeImages::Present
        }
    };
    let mut targets = targets.iter().filter_map(|(name, _)| nodes.get(&**name));
    if targets.all(|node| has_all(node)) {
        ImagePresence::OnAllNodes
    } else {
        ImagePresence::Unknown
    }
}
