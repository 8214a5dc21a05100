//! The texts of events.

use std::time::Duration;

use super::prefetch::Prefetch;
use crate::api::annotations::{AFTER_READY, Amount, HoldUntil};
use crate::api::hold_mark::HoldMark;
use crate::api::mode::Mode;
use crate::api::well_known::{HELD_LABEL, PREFETCH_LABEL};
use crate::event::EventReason;
use crate::hold::{HoldEndReason, Progress};
use crate::image::UnsupportedImage;
use crate::limits::{NOTE_BYTES, printed};
use crate::pod::status::Failure;
use crate::scheduling::image_sizes::TooLarge;
use crate::scheduling::skip_reason::SkipReason;
use crate::time::Instant;
use crate::workload::{DeploymentKey, Workload};

/// The number of skipped nodes that an event names; the rest are counted.
const NAMED_NODES: usize = 5;
/// The number of images that are not prefetched and have an event of their own; the rest are counted.
const NAMED_IMAGES: usize = 3;

/// A prefetch starts; these nodes are skipped.
pub(super) fn prefetch_started(prefetch: &Prefetch, skipped: &[(&str, SkipReason<'_>)]) -> String {
    let nodes = count(prefetch.nodes.len(), "node");
    let images = &prefetch.workload.images;
    let mut note = format!(
        "Prefetching {} to {nodes}: {}",
        count(images.len(), "image"),
        image_list(&prefetch.workload)
    );
    if !prefetch.already_present.is_empty() {
        note.push_str(&format!(
            ". {} report them already",
            count(prefetch.already_present.len(), "node")
        ));
    }
    if !skipped.is_empty() {
        let reasons = skipped
            .iter()
            .take(NAMED_NODES)
            .map(|(node, why)| format!("{node}: {why}"));
        let rest = skipped.len().saturating_sub(NAMED_NODES);
        let rest = (rest > 0).then(|| format!("{rest} more"));
        let named = reasons.chain(rest).collect::<Vec<_>>().join("; ");
        note.push_str(&format!(
            ". Skipped {} ({named})",
            count(skipped.len(), "node")
        ));
    }
    note
}

/// A prefetch waits until fewer than so many Deployments of its namespace pull.
pub(super) fn waits_for_start(limit: usize) -> String {
    format!(
        "{} of this namespace pull images now. This one waits until fewer do; so do others that follow",
        count(limit, "Deployment")
    )
}

/// Returns the effect of the annotation for ready pods on a prefetch. `awaits` says that the prefetch waits for them.
pub(super) fn after_ready(wanted: Amount, mode: Mode, awaits: bool) -> Option<String> {
    let ready = wanted.of_new_pods_ready();
    match (mode, awaits) {
        (Mode::Hold, _) => Some(format!(". {AFTER_READY} has no effect with hold")),
        (_, true) => Some(format!(". It begins when {ready} ({AFTER_READY})")),
        _ => None,
    }
}

/// All images are on every planned node.
pub(super) fn prefetched(prefetch: &Prefetch, now: Instant) -> String {
    format!(
        "{} on {} after {:.1} s: {}",
        count(prefetch.workload.images.len(), "image"),
        count(prefetch.nodes.totals().present, "node"),
        now.duration_since(prefetch.started).as_secs_f64(),
        image_list(&prefetch.workload),
    )
}

/// An image failed on a node. `waiting` nodes are not tried because of it.
pub(super) fn prefetch_failed(
    image: &str,
    node: &str,
    failure: &Failure,
    waiting: usize,
) -> String {
    let (reason, message) = (failure.kind.reason(), &failure.message);
    let note = format_args!("Image {image:?} on node {node} ({reason}): {message}");
    let mut note = printed(note, NOTE_BYTES);
    if waiting > 0 {
        note.push_str(&format!(
            ". {} not tried: they follow when it succeeds, or with the next change",
            count(waiting, "node")
        ));
    }
    note
}

/// A node refuses the prefetch pod: it says nothing about the images.
pub(super) fn node_refuses(node: &str, failure: &Failure) -> String {
    let message = &failure.message;
    let note = format_args!("Node {node} does not take the prefetch pod: {message}");
    let note = printed(note, NOTE_BYTES);
    format!("{note}. No rollout waits for the node; it is tried again later")
}

/// A kubelet does not acknowledge the prefetch pod.
pub(super) fn node_silent(node: &str, after: Duration) -> String {
    format!(
        "Node {node} does not answer: its kubelet has not acknowledged the prefetch pod in {} s. No rollout waits for the node until it does",
        after.as_secs()
    )
}

/// A node reports DiskPressure while it pulls.
pub(super) fn disk_pressure(node: &str) -> String {
    format!(
        "Node {node} reports DiskPressure, and its prefetch pods are deleted. No rollout waits for the node; it is tried once more when it has room again"
    )
}

/// An image is larger than what is prefetched.
pub(super) fn image_too_large(too_large: TooLarge<'_>) -> String {
    format!("Not prefetched to the nodes that lack it: {too_large}")
}

fn image_list(workload: &Workload) -> String {
    let mut list = String::new();
    for image in &workload.images {
        if list.len() > NOTE_BYTES {
            break;
        }
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(&image.as_written);
    }
    list
}

/// Returns the events about the faults of a Deployment: the reason, the text that tells the event from others of that reason,
/// and the note.
pub(super) fn complaints(workload: &Workload) -> Vec<(EventReason, String, String)> {
    let mut complaints = Vec::new();
    if let Some(why) = workload.too_large {
        let note =
            format!("Nothing is prefetched for this Deployment, and no rollout of it held: {why}");
        complaints.push((EventReason::ImageNotPrefetched, String::new(), note));
    }
    for UnsupportedImage {
        as_written: given,
        reason,
    } in workload.unsupported.images.iter().take(NAMED_IMAGES)
    {
        let note = format!("Image {given:?} is not prefetched: {reason}");
        complaints.push((EventReason::ImageNotPrefetched, given.clone(), note));
    }
    let refused = workload.unsupported.images.len() + workload.unsupported.more;
    let more = refused.saturating_sub(NAMED_IMAGES);
    if more > 0 {
        let note = format!("And {} not prefetched", count(more, "more image"));
        complaints.push((EventReason::ImageNotPrefetched, "more".to_owned(), note));
    }
    for malformed in &workload.annotations.invalid {
        let subject = malformed.annotation.to_owned();
        complaints.push((
            EventReason::InvalidAnnotation,
            subject,
            malformed.to_string(),
        ));
    }
    complaints
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A rollout is held.
pub(super) fn rollout_held(workload: &Workload, held: HoldMark, planned: usize) -> String {
    let share = match &workload.annotations.hold_until {
        Some(HoldUntil(share)) => format!("{share} of "),
        None => String::new(),
    };
    let until = held.until.map(|until| until.to_string());
    format!(
        "The rollout waits until {} on {share}{}, at most until {}: {}",
        match workload.images.len() {
            1 => "its image is",
            _ => "its images are",
        },
        count(planned, "node"),
        until.unwrap_or_default(),
        image_list(workload),
    )
}

/// Returns the reason why a hold ended, in words.
pub(super) fn hold_end_reason(
    ending: HoldEndReason,
    progress: Option<Progress>,
    last_error: Option<&str>,
) -> String {
    let there = progress.map_or_else(String::new, |progress| {
        let (warm, planned) = (progress.present, progress.planned);
        format!("its images are on {warm} of {}", count(planned, "node"))
    });
    let not_waited_for = progress.map_or(0, |progress| progress.abandoned);
    let why = last_error.unwrap_or("see the other events");
    match ending {
        HoldEndReason::Warm if not_waited_for > 0 => {
            let nodes = count(not_waited_for, "node");
            format!("{there}; {nodes} not waited for. {why}")
        }
        HoldEndReason::Warm => there,
        HoldEndReason::ImageFailed => format!("an image cannot be had. {why}"),
        HoldEndReason::NoNode if not_waited_for > 0 => {
            format!("no node can take the images now. {why}")
        }
        HoldEndReason::NoNode => {
            let error = last_error.map_or_else(String::new, |error| format!(". {error}"));
            format!("there is no node to prefetch on{error}")
        }
        HoldEndReason::Blocked => format!("prefetch pods are refused. {why}"),
        HoldEndReason::Deadline if there.is_empty() => "the time is up".to_owned(),
        HoldEndReason::Deadline => format!("the time is up; {there}"),
        HoldEndReason::ImpossibleMarks => {
            "its marks say times that headstart does not set, or that --max-hold does not allow any more"
                .to_owned()
        }
        HoldEndReason::NotAsked => format!("label {PREFETCH_LABEL} does not say hold any more"),
        HoldEndReason::SwitchedOff => "headstart runs with --hold=off".to_owned(),
        HoldEndReason::Unregistered => "headstart's webhook configuration is deleted".to_owned(),
        HoldEndReason::ByHand => "by somebody else".to_owned(),
        HoldEndReason::Updated => {
            "an update has nothing to wait for: a fix, or images that are on the nodes".to_owned()
        }
    }
}

/// A rollout goes on.
pub(super) fn rollout_resumed(after: Duration, detail: &str) -> String {
    format!("After {:.0} s: {detail}", after.as_secs_f64())
}

/// A hold is over, but the manifest pauses the rollout.
pub(super) fn rollout_left_paused(detail: &str) -> String {
    format!(
        "The hold is over ({detail}), and the Deployment stays paused: its manifest says paused: true, or another client paused it"
    )
}

/// Another client removed the mark of a hold and left the pause.
pub(super) fn hold_mark_removed() -> String {
    format!(
        "The label {HELD_LABEL} is gone, and the Deployment stays paused until it is resumed by hand"
    )
}

/// A hold is over, but the rollout cannot be resumed.
pub(super) fn rollout_not_resumed(key: &DeploymentKey, reason: &str) -> String {
    let DeploymentKey { namespace, name } = key;
    format!(
        "Cannot resume ({reason}); use: kubectl rollout resume -n {namespace} deployment/{name}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::workload;
    use serde_json::json;

    fn said(web: &Workload) -> Vec<(EventReason, String)> {
        let complaints = complaints(web).into_iter();
        complaints.map(|(reason, _, note)| (reason, note)).collect()
    }

    #[test]
    fn thousands_of_bad_images_are_three_events_and_a_count() {
        let bad = |i| json!({"name": "c", "image": format!("Not Valid {i}")});
        let containers: Vec<_> = (0..20_000).map(bad).collect();
        let said = said(&workload(json!({"containers": containers})));
        assert_eq!(said.len(), 4);
        assert!(
            said.iter()
                .all(|(reason, _)| *reason == EventReason::ImageNotPrefetched)
        );
        assert!(
            said[2].1.starts_with("Image \"Not Valid 2\" is not"),
            "{said:?}"
        );
        assert_eq!(said[3].1, "And 19997 more images not prefetched");
        let three = workload(json!({"containers": [bad(0), bad(1), bad(2)]}));
        assert_eq!(super::complaints(&three).len(), 3);
    }

    #[test]
    fn what_is_too_large_is_one_event_that_names_the_limit() {
        let tolerations = vec![json!({"operator": "Exists"}); 60_000];
        let said = said(&workload(json!({
            "containers": [{"name": "a", "image": "Not Valid"}], "tolerations": tolerations,
        })));
        let [(EventReason::ImageNotPrefetched, note)] = said.as_slice() else {
            panic!("{said:?}");
        };
        assert!(note.ends_with("more than 64 tolerations"), "{note}");
    }

    #[test]
    fn each_complaint_tells_itself_from_the_others() {
        let containers: Vec<_> = (0..10)
            .map(|i| json!({"image": format!("Bad {i}"), "name": ""}))
            .collect();
        let all = complaints(&workload(json!({"containers": containers})));
        let subjects: std::collections::BTreeSet<_> =
            all.iter().map(|(_, subject, _)| subject).collect();
        assert_eq!(subjects.len(), all.len());
    }
}
