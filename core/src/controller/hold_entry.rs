//! One held rollout, as last seen.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

use super::turn::Turn;
use crate::api::hold_mark::HoldMark;
use crate::api::mode::Mode;
use crate::hold::MODE_GRACE;
use crate::image::ImageSetId;
use crate::time::{Instant, Now};
use crate::workload::Workload;

/// How long a rollout whose images are present waits for the kubelets to remove the prefetch pods. They take a second or two
/// after the last pull, and meanwhile the rollout's first pods would start slower.
pub(super) const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time between two checks of a hold: the wall clock may be set.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A held rollout, as last seen.
#[derive(Debug)]
pub(super) struct HoldEntry {
    pub(super) workload: Arc<Workload>,
    pub(super) mark: HoldMark,
    /// When this controller first saw the hold.
    pub(super) seen_at: Instant,
    /// When the images were first present.
    pub(super) present_since: Option<Instant>,
    /// The images for which the hold was reported.
    pub(super) reported: Option<ImageSetId>,
    pub(super) state: HoldState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldState {
    Waiting,
    /// The resume is in flight.
    Resuming,
    /// It was resumed, and the watch has not shown it; until then.
    AwaitingWatch(Instant),
    /// It could not be resumed, and is tried again then.
    RetryAt(Instant),
}

impl HoldEntry {
    /// Returns when time alone can end the hold, at most [`CHECK_INTERVAL`] from now.
    pub(super) fn next_check(&self, mode: Mode, turn: &Turn<'_>) -> Instant {
        let now: Now = turn.now;
        let most = match (mode, turn.config.holds) {
            (Mode::Hold, Some(limits)) => limits.max,
            _ => MODE_GRACE,
        };
        let after = |duration: SignedDuration| Duration::try_from(duration).unwrap_or_default();
        let by_mark = self
            .mark
            .since
            .and_then(|since| since.checked_add(most).ok());
        let settled = self.present_since.map(|since| since + SETTLE_TIMEOUT);
        let deadlines = [
            self.mark.until.map(|until| now.at_wall(until)),
            by_mark.map(|at| now.at_wall(at)),
            Some(self.seen_at + after(most)),
            settled,
        ];
        let due = deadlines.into_iter().flatten();
        let next = due.filter(|at| *at > now.monotonic).min();
        let latest = now.monotonic + CHECK_INTERVAL;
        next.map_or(latest, |next| next.min(latest))
    }
}
