//! The marks of a Deployment whose rollout headstart holds.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL, HELD_VALUE};

/// Returns whether a label or annotation is a mark of a hold, of this version or of another. A version may add marks. Each takes all
/// of them away with the hold, and headstart's policies allow that.
pub fn is_mark(key: &str) -> bool {
    key.starts_with(HELD_LABEL)
}

/// Tells one hold from all others: a Deployment has one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldId {
    /// The UID of the Deployment.
    pub uid: String,
    /// The time at which the hold began, as its mark says.
    pub since: Option<Timestamp>,
}

/// The hold that a Deployment's marks describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldMark {
    /// The time at which it began. `None` if the mark is gone or cannot be read.
    pub since: Option<Timestamp>,
    /// The latest time at which it ends. Without it the time is up.
    pub until: Option<Timestamp>,
    /// True while the rollout is paused; otherwise another client has resumed it.
    pub paused: bool,
}

impl HoldMark {
    /// Reads a Deployment's marks; `None` without the label.
    pub fn read(deployment: &Deployment) -> Option<Self> {
        let metadata = &deployment.metadata;
        Self::from_metadata(
            metadata.labels.as_ref(),
            metadata.annotations.as_ref(),
            is_paused(deployment),
        )
    }

    /// The same of its labels and annotations.
    pub fn from_metadata(
        labels: Option<&BTreeMap<String, String>>,
        annotations: Option<&BTreeMap<String, String>>,
        paused: bool,
    ) -> Option<Self> {
        if labels?.get(HELD_LABEL).map(String::as_str) != Some(HELD_VALUE) {
            return None;
        }
        let time = |key| annotations?.get(key)?.parse().ok();
        Some(Self {
            since: time(HELD_SINCE),
            until: time(HELD_UNTIL),
            paused,
        })
    }
}

/// Returns whether a Deployment is paused, by headstart or by another client.
fn is_paused(deployment: &Deployment) -> bool {
    let spec = deployment.spec.as_ref();
    spec.and_then(|spec| spec.paused).unwrap_or(false)
}

/// The most by which the clock of the replica that began a hold may be ahead of this replica's clock.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

impl HoldMark {
    /// Returns whether the mark says times that headstart does not set. These are no beginning, one in the future, or an end
    /// that is later than the beginning plus the limit `max`. Without this check the mark alone would set the limit of such a
    /// hold.
    pub(crate) fn is_impossible(self, max: SignedDuration, now: Timestamp) -> bool {
        let latest = now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
        let Some(since) = self.since.filter(|since| *since <= latest) else {
            return true;
        };
        self.until
            .is_some_and(|until| until.duration_since(since) > max)
    }
}
