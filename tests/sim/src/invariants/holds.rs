//! Invariants of holds: who may end them, when they must have ended, and what is said about it.

use headstart_core::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL};
use headstart_core::image::ImageSetId;
use headstart_core::workload::Workload;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{Monitor, UserPauses, Violation, working_leader};
use crate::api_server::{Kind, Object, ObjectKey};
use crate::cluster::Cluster;
use crate::options::Fault;
use crate::replica::Replica;
use crate::workloads::{core_key, is_held, is_paused};

/// How much later than its limit a hold may end while a leader works, in milliseconds.
const GRACE: u64 = 60_000;
/// How late a watch may be, in milliseconds.
const WATCH_LAG: u64 = 35_000;
/// The age of the lease's last renewal at which the gate is closed: the renew deadline, and a replica's pause between two reads.
const MOST_UNRENEWED: u64 = 12_000;
/// How old a node's report of its images may be, in milliseconds.
const REPORT_AGE: u64 = 60_000;

/// A hold that is not over.
#[derive(Clone, Debug)]
pub(super) struct HeldSince {
    since: String,
    /// For how long a leader could have ended it after its time.
    overdue: u64,
}

/// Checks the write that ends a hold (S2).
pub(super) fn check_resume(
    key: &ObjectKey,
    before: &Object,
    after: &Object,
    only_if: Option<&ImageSetId>,
    pauses: &UserPauses,
) -> Result<(), Violation> {
    let name = &key.name;
    let violated = |detail: &str| Err(Violation::new("S2 resumes", name, detail));
    if before.label(HELD_LABEL) != Some("true") {
        return violated("it does not carry the mark of a hold");
    }
    let resumed = is_paused(&before.value) && !is_paused(&after.value);
    if resumed && pauses.has(before.uid()) {
        return violated("its user pauses it");
    }
    let workload = Workload::from_deployment(before.deployment());
    let other_images = |wanted: &ImageSetId| {
        let images = workload.as_ref().map(|workload| &workload.image_set);
        images != Some(wanted)
    };
    if resumed && only_if.is_some_and(other_images) {
        return violated("it is held for other images");
    }
    let bare = |object: &Object| {
        let mut value = object.value.clone();
        let marks = json!({
            "metadata": {
                "labels": {HELD_LABEL: null}, "annotations": {HELD_SINCE: null, HELD_UNTIL: null},
                "resourceVersion": null, "generation": null, "managedFields": null,
            },
            "spec": {"paused": null},
        });
        json_patch::merge(&mut value, &marks);
        value
    };
    if bare(before) != bare(after) {
        return violated("other fields are changed");
    }
    Ok(())
}

/// Checks what a hold that ended as warm says (S9): at least so many nodes had all images since the hold began.
pub(super) fn check_warm(
    workload: &Workload,
    note: &str,
    cluster: &Cluster,
) -> Result<(), Violation> {
    let Some(present) = nodes_in(note) else {
        return Ok(());
    };
    let since = workload.state.held.and_then(|held| held.since);
    let since = since.map_or(0, |since| Cluster::since_epoch(since).max(0));
    let since = u64::try_from(since).unwrap_or(0).saturating_sub(REPORT_AGE);
    let skew = Fault::Clock;
    if cluster.options.has(skew) {
        return Ok(());
    }
    let images = workload.images.iter().map(|image| &*image.as_written);
    let nodes = cluster.images.nodes_that_had(images, since);
    if nodes < present {
        let detail = format!("{note:?}, and {nodes} nodes have had them since");
        return Err(Violation::new(
            "S9 warm",
            &workload.key.to_string(),
            &detail,
        ));
    }
    Ok(())
}

/// Returns how many nodes have the images, as an event says it.
fn nodes_in(note: &str) -> Option<usize> {
    let (_, rest) = note.split_once("its images are on ")?;
    rest.split_once(" of ")?.0.parse().ok()
}

impl Monitor {
    /// Checks that holds begin only while a replica leads (S14), and that none is overdue while a leader works (S8). `passed` is the
    /// time since the last check.
    ///
    /// # Errors
    /// A hold is overdue, or began without a leader.
    pub(crate) fn check_holds(
        &mut self,
        replicas: &[Replica],
        cluster: &mut Cluster,
        passed: u64,
    ) -> Result<(), Violation> {
        check_begun(cluster)?;
        let leader = working_leader(replicas, cluster);
        let mut held = std::mem::take(&mut self.held);
        for (key, object) in cluster.api.list(Kind::Deployment) {
            if !is_held(&object.value) || self.pauses.has(object.uid()) {
                continue;
            }
            let since = object.value["metadata"]["annotations"][HELD_SINCE].to_string();
            let before = held.remove(object.uid());
            let mut hold = before
                .filter(|before| before.since == since)
                .unwrap_or(HeldSince { since, overdue: 0 });
            if leader.is_some_and(|leader| is_overdue(object, cluster, leader.clock_ahead)) {
                hold.overdue += passed;
            }
            let lag = if cluster.options.has(Fault::WatchLag) {
                WATCH_LAG
            } else {
                0
            };
            // A leader whose clock is behind ends it when it has seen it for the longest time.
            let behind = if cluster.options.has(Fault::Clock) {
                u64::try_from(cluster.options.max_hold().as_millis()).unwrap_or(0) * 2
            } else {
                0
            };
            if hold.overdue > GRACE + lag + behind {
                let annotations = &object.value["metadata"]["annotations"];
                let detail = format!(
                    "held since {}, until {}, and a leader has worked for {} s beyond it",
                    annotations[HELD_SINCE],
                    annotations[HELD_UNTIL],
                    hold.overdue / 1000,
                );
                let name = core_key(key).to_string();
                return Err(Violation::new("S8 hold bound", &name, &detail));
            }
            self.held.insert(object.uid().to_owned(), hold);
        }
        Ok(())
    }
}

/// Checks that a hold begins only while the lease is renewed (S14).
fn check_begun(cluster: &mut Cluster) -> Result<(), Violation> {
    // A replica that could not read the lease for a while sees a renewal late.
    let late = [Fault::Stop, Fault::ApiServerDown];
    let is_late = late.into_iter().any(|fault| cluster.options.has(fault));
    for (name, age) in cluster.holds_begun.drain(..) {
        if age > MOST_UNRENEWED && !is_late {
            let detail = format!("a hold began {age} ms after the last renewal of the lease");
            return Err(Violation::new("S14 gate", &name, &detail));
        }
    }
    Ok(())
}

/// Returns whether the time of a hold is over, by the leader's clock.
fn is_overdue(object: &Object, cluster: &Cluster, ahead: i64) -> bool {
    let time = |key: &str| -> Option<Timestamp> {
        object.value["metadata"]["annotations"][key]
            .as_str()?
            .parse()
            .ok()
    };
    let now = cluster.wall(ahead);
    let Some((since, until)) = time(HELD_SINCE).zip(time(HELD_UNTIL)) else {
        return true;
    };
    let max = cluster.options.config.holds.map(|holds| holds.max);
    let longest = max.and_then(|max| since.checked_add(max).ok());
    since > now || now > until || longest.is_none_or(|longest| now > longest)
}

/// Returns whether a Deployment is paused, and no user wants it so.
pub(super) fn is_paused_by_nobody(object: &Object, pauses: &UserPauses) -> bool {
    is_paused(&object.value) && !pauses.has(object.uid())
}
