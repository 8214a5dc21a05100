//! The marks by which a Deployment tells that headstart holds its rollout.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL, HELD_VALUE};

/// The hold that a Deployment's marks tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldMark {
    /// When it began. `None` if the mark is gone or cannot be read.
    pub since: Option<Timestamp>,
    /// When it ends at the latest. Without it the time is up.
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
    pub(crate) fn from_metadata(
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

/// How far the clock of the replica that began a hold may be ahead of this one's.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

impl HoldMark {
    /// Returns whether the mark says a time at which headstart cannot have begun a hold: none, or one in the future. The limit of
    /// such a hold would be whatever the mark says.
    pub(crate) fn is_impossible(self, now: Timestamp) -> bool {
        let latest = now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
        self.since.is_none_or(|since| since > latest)
    }
}
