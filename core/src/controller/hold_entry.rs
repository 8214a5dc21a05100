//! One held rollout, as last seen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

use super::command::{CommandId, ResumeOutcome};
use super::hold_reports::{Resume, ResumeError};
use super::prefetch::Prefetch;
use super::turn::Turn;
use crate::api::hold_mark::{HoldId, HoldMark};
use crate::api::mode::Mode;
use crate::hold::{
    HoldEndReason, HoldInput, HoldState, MODE_GRACE, Progress, SETTLE_TIMEOUT, end_reason,
    time_left,
};
use crate::image::ImageSetId;
use crate::store::Store;
use crate::time::Instant;
use crate::workload::{DeploymentKey, Workload};

/// The longest time between two checks of a hold: the wall clock may be set.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A held rollout, as last seen.
#[derive(Debug)]
pub(super) struct HoldEntry {
    pub(super) workload: Arc<Workload>,
    pub(super) mark: HoldMark,
    /// The time at which this controller first saw the hold.
    pub(super) seen_at: Instant,
    pub(super) state: HoldState,
    /// The time since which it is to be resumed; `None` if it is not to be.
    pub(super) over_since: Option<Instant>,
    /// The resume in flight, in state [`HoldState::Resuming`].
    pub(super) resume: Option<CommandId>,
    /// The images for which the hold was reported.
    pub(super) reported: Option<ImageSetId>,
    /// The classes of failed resumes that were reported.
    pub(super) reported_failures: BTreeSet<String>,
    /// The last resume whose answer was lost: it may have been done.
    pub(super) unanswered: Option<Resume>,
}

impl HoldEntry {
    /// Returns a hold that is seen for the first time.
    pub(super) fn new(workload: Arc<Workload>, mark: HoldMark, now: Instant) -> Self {
        Self {
            workload,
            mark,
            seen_at: now,
            state: HoldState::Waiting,
            over_since: None,
            resume: None,
            reported: None,
            reported_failures: BTreeSet::new(),
            unanswered: None,
        }
    }

    /// Returns the identity of the hold.
    pub(super) fn id(&self) -> HoldId {
        HoldId {
            uid: self.workload.uid.clone(),
            since: self.mark.since,
        }
    }

    /// Returns whether the hold is to be reported, and records that it is: once for each image set.
    pub(super) fn take_unreported(&mut self, mode: Mode) -> bool {
        let images = &self.workload.image_set;
        if mode != Mode::Hold || !self.mark.paused || self.reported.as_ref() == Some(images) {
            return false;
        }
        self.reported = Some(images.clone());
        true
    }

    /// Converts the answer to its resume into an input for its state.
    pub(super) fn answer(
        &self,
        resume: &Resume,
        result: &Result<ResumeOutcome, ResumeError>,
    ) -> HoldInput {
        let other_images = self.workload.image_set != resume.workload.image_set;
        match result {
            Ok(ResumeOutcome::ImagesChanged) if other_images => HoldInput::FoundOtherImages,
            Ok(ResumeOutcome::NotHeld | ResumeOutcome::ImagesChanged) => {
                HoldInput::FoundUnseenChange
            }
            Ok(_) => HoldInput::Resumed,
            Err(_) => HoldInput::ResumeFailed,
        }
    }

    /// Checks the hold. Returns the input for its state, with the progress of its prefetch. `registered` is false once the
    /// webhook configuration is deleted.
    pub(super) fn check(
        &self,
        registered: bool,
        prefetch: Option<&Prefetch>,
        mode: Mode,
        turn: &Turn<'_>,
    ) -> (HoldInput, Option<Progress>) {
        let now = turn.now;
        let progress = prefetch.map(|prefetch| prefetch.progress(now.monotonic));
        let seen_for = now.signed_since(self.seen_at);
        let end = match turn.config.holds {
            Some(_) if !registered => Some(HoldEndReason::Unregistered),
            Some(limits) => end_reason(
                &self.workload,
                self.mark,
                mode,
                limits,
                seen_for,
                progress,
                now.wall,
            ),
            None => Some(HoldEndReason::SwitchedOff),
        };
        let has_unfinished_pods =
            end == Some(HoldEndReason::Warm) && has_pods_to_go(&self.workload.key, turn.store);
        let input = HoldInput::Checked {
            end,
            has_unfinished_pods,
        };
        (input, progress)
    }

    /// Returns when time alone can move the hold to another state. While it waits, that is at most [`CHECK_INTERVAL`] from now.
    pub(super) fn next_check(
        &self,
        prefetch: Option<&Prefetch>,
        mode: Mode,
        turn: &Turn<'_>,
    ) -> Option<Instant> {
        let now = turn.now;
        let settled = match self.state {
            HoldState::Resuming { .. } => return None,
            HoldState::AwaitingWatch(until) | HoldState::RetryAt { at: until, .. } => {
                return Some(until);
            }
            HoldState::Settling(since) => Some(since + SETTLE_TIMEOUT),
            HoldState::Waiting => None,
        };
        let seen_for = now.signed_since(self.seen_at);
        let limit = turn.config.holds.map(|limits| {
            let left = time_left(self.mark, limits.max, seen_for, now.wall);
            now.monotonic + after(left)
        });
        let mode_grace = (mode != Mode::Hold).then(|| {
            let since = self.mark.since.unwrap_or(now.wall);
            let left = MODE_GRACE.saturating_sub(now.wall.duration_since(since));
            now.monotonic + after(left.min(MODE_GRACE.saturating_sub(seen_for)))
        });
        let answer =
            prefetch.and_then(|prefetch| prefetch.nodes.answers.next_change(now.monotonic));
        let due = [settled, limit, mode_grace, answer].into_iter().flatten();
        let next = due.filter(|at| *at > now.monotonic).min();
        let latest = now.monotonic + CHECK_INTERVAL;
        Some(next.map_or(latest, |next| next.min(latest)))
    }
}

/// Returns whether the rollout would start slower, or find less room in a quota, than without these pods.
fn has_pods_to_go(key: &DeploymentKey, store: &Store) -> bool {
    store.has_unfinished_pods(key)
        || store.has_pods(key) && store.counts_finished_pods(&key.namespace)
}

fn after(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}
