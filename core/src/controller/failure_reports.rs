//! Reports the failures of pulls.

use super::log::LogLine;
use super::messages;
use super::prefetch::Prefetch;
use super::pulls::Pulls;
use super::turn::Turn;
use crate::event::EventReason;
use crate::pod::status::{Failure, FailureKind};
use crate::store::DeploymentNode;

/// Reports the failures on a node: one event for each image and class of failure.
pub(super) fn report_failures(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    failures: &[(usize, Failure)],
    turn: &mut Turn<'_>,
) {
    let Some(prefetch) = pulls.prefetches.get_mut(&at.key) else {
        return;
    };
    let unauthorized = |(_, failure): &(usize, Failure)| failure.kind == FailureKind::Unauthorized;
    if failures.iter().any(unauthorized) {
        prefetch.pull_secrets.want_again(turn.now.monotonic);
        turn.mark_changed(&at.key);
    }
    for (index, failure) in failures {
        let reason = failure.kind.reason();
        if failure.kind == FailureKind::Rejected {
            report_refusal(prefetch, at, failure, turn);
            continue;
        }
        if !prefetch.reports.failures.insert((Some(*index), reason)) {
            continue;
        }
        let image = prefetch.workload.images.get(*index);
        let image = image.map_or("?", |image| &*image.as_written).to_owned();
        let waiting = if failure.kind.is_permanent() {
            prefetch.nodes.not_attempted_count()
        } else {
            0
        };
        let note = messages::prefetch_failed(&image, &at.node, failure, waiting);
        prefetch.reports.last_error = Some(note.clone());
        let subject = format!("{image} {reason}");
        turn.out.logs.push(LogLine::ImageFailed {
            at: at.clone(),
            image,
            reason,
        });
        let failed = EventReason::PrefetchFailed;
        turn.out.event(&prefetch.workload, failed, subject, note);
    }
}

/// Reports once that a node refuses its pod. That is no fault of the images.
fn report_refusal(
    prefetch: &mut Prefetch,
    at: &DeploymentNode,
    failure: &Failure,
    turn: &mut Turn<'_>,
) {
    let reason = failure.kind.reason();
    if !prefetch.reports.take_node_fault(reason) {
        return;
    }
    let note = messages::node_refuses(&at.node, failure);
    prefetch.reports.last_error = Some(note.clone());
    turn.out.logs.push(LogLine::NodeRefused {
        at: at.clone(),
        message: failure.message.clone(),
    });
    let failed = EventReason::PrefetchFailed;
    turn.out.event(&prefetch.workload, failed, reason, note);
}
