//! What events say.

use super::work::Work;
use crate::domain::outcome::Failure;
use crate::domain::workload::Workload;

/// How many skipped nodes an event names; the rest are counted.
const NAMED_NODES: usize = 5;

/// A prefetch begins.
pub(super) fn opening(work: &Work) -> String {
    let nodes = count(work.spots.len(), "node");
    let images = &work.workload.images;
    let mut note = format!(
        "Prefetching {} to {nodes}: {}",
        count(images.len(), "image"),
        image_list(&work.workload)
    );
    if work.reporting > 0 {
        note.push_str(&format!(
            ". {} report them already",
            count(work.reporting, "node")
        ));
    }
    if !work.skipped.is_empty() {
        let reasons = work
            .skipped
            .iter()
            .take(NAMED_NODES)
            .map(|(node, why)| format!("{node}: {why}"));
        let rest = work.skipped.len().saturating_sub(NAMED_NODES);
        let rest = (rest > 0).then(|| format!("{rest} more"));
        let named = reasons.chain(rest).collect::<Vec<_>>().join("; ");
        note.push_str(&format!(
            ". Skipped {} ({named})",
            count(work.skipped.len(), "node")
        ));
    }
    note
}

/// Every node is warm.
pub(super) fn closing(work: &Work) -> String {
    format!(
        "{} on {} after {:.1} s: {}",
        count(work.workload.images.len(), "image"),
        count(work.totals().warm, "node"),
        work.started.elapsed().as_secs_f64(),
        image_list(&work.workload),
    )
}

/// An image failed on a node. `waiting` nodes are not tried because of it.
pub(super) fn failed(image: &str, node: &str, failure: &Failure, waiting: usize) -> String {
    let mut note = format!(
        "Image {image:?} on node {node} ({}): {}",
        failure.kind.reason(),
        failure.message
    );
    if waiting > 0 {
        note.push_str(&format!(
            ". {} not tried: they follow when it succeeds, or with the next change",
            count(waiting, "node")
        ));
    }
    note
}

fn image_list(workload: &Workload) -> String {
    let images = workload.images.iter().map(|image| image.given.as_str());
    images.collect::<Vec<_>>().join(", ")
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
