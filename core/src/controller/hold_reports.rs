//! Reports the end of a hold.

use std::sync::Arc;
use std::time::Duration;

use super::command::{ResumeOutcome, WriteError};
use super::log::LogLine;
use super::messages;
use super::observation::Observation;
use super::prefetch::Prefetch;
use super::turn::Turn;
use crate::api::hold_mark::{HoldId, HoldMark};
use crate::event::EventReason;
use crate::hold::HoldEndReason;
use crate::workload::Workload;

/// A resume in flight.
#[derive(Clone, Debug)]
pub(super) struct Resume {
    pub(super) workload: Arc<Workload>,
    pub(super) mark: HoldMark,
    pub(super) reason: HoldEndReason,
    /// The reason in words.
    pub(super) detail: String,
    /// The number of attempts that met a change of the Deployment by another client.
    pub(super) conflicts: u32,
}

impl Resume {
    /// Returns the hold that it is for.
    pub(super) fn hold_id(&self) -> HoldId {
        HoldId {
            uid: self.workload.uid.clone(),
            since: self.mark.since,
        }
    }
}

/// The reason for which a resume failed.
#[derive(Clone, Debug)]
pub(super) enum ResumeError {
    /// Other clients changed the Deployment so often meanwhile.
    Conflicts(u32),
    /// The API server did not do it.
    Write(WriteError),
}

impl ResumeError {
    /// Returns the class of the error: each is reported once for a hold.
    pub(super) fn class(&self) -> String {
        match self {
            Self::Conflicts(_) => "Conflict".to_owned(),
            Self::Write(error) => error.class(),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Conflicts(times) => format!("it was changed {times} times meanwhile"),
            Self::Write(error) => error.message().to_owned(),
        }
    }
}

/// Reports a hold.
pub(super) fn report_held(
    workload: &Arc<Workload>,
    mark: HoldMark,
    prefetch: &Prefetch,
    turn: &mut Turn<'_>,
) {
    let planned = prefetch.progress(turn.now.monotonic).planned;
    let note = messages::rollout_held(workload, mark, planned);
    turn.out.logs.push(LogLine::Held {
        key: workload.key.clone(),
        until: mark.until,
    });
    let held = EventReason::RolloutHeld;
    turn.out.event(workload, held, hold_id(mark), note);
}

/// Reports the outcome of a resume.
pub(super) fn report_resume(resume: &Resume, outcome: ResumeOutcome, turn: &mut Turn<'_>) {
    let Resume {
        workload,
        mark,
        reason,
        detail,
        ..
    } = resume;
    match outcome {
        ResumeOutcome::Resumed => report_resumed(workload, *mark, *reason, detail, turn),
        ResumeOutcome::AlreadyResumed => {
            let detail = messages::hold_end_reason(HoldEndReason::ByHand, None, None);
            report_resumed(workload, *mark, HoldEndReason::ByHand, &detail, turn);
        }
        ResumeOutcome::LeftPaused => {
            let key = workload.key.clone();
            turn.out.logs.push(LogLine::LeftPaused(key));
            let note = messages::rollout_left_paused(detail);
            let left = EventReason::RolloutLeftPaused;
            turn.out.event(workload, left, hold_id(*mark), note);
        }
        // The watch brings the newest state.
        ResumeOutcome::NotHeld | ResumeOutcome::ImagesChanged | ResumeOutcome::Conflict => {}
    }
}

/// Reports that a rollout could not be resumed.
pub(super) fn report_not_resumed(resume: &Resume, error: &ResumeError, turn: &mut Turn<'_>) {
    let Resume { workload, mark, .. } = resume;
    let key = workload.key.clone();
    let (class, error) = (error.class(), error.message());
    let note = messages::rollout_not_resumed(&key, &error);
    turn.out.logs.push(LogLine::NotResumed { key, error });
    let failed = EventReason::RolloutNotResumed;
    let subject = format!("{} {class}", hold_id(*mark));
    turn.out.event(workload, failed, subject, note);
}

/// Reports that a rollout goes on.
pub(super) fn report_resumed(
    workload: &Arc<Workload>,
    mark: HoldMark,
    reason: HoldEndReason,
    detail: &str,
    turn: &mut Turn<'_>,
) {
    let after = mark.since.map(|since| turn.now.wall.duration_since(since));
    let after = after.and_then(|after| Duration::try_from(after).ok());
    let after = after.unwrap_or_default();
    let reason = reason.reason();
    turn.out.logs.push(LogLine::Resumed {
        key: workload.key.clone(),
        reason,
        after,
    });
    let ended = Observation::HoldEnded { reason, after };
    turn.out.observations.push(ended);
    let note = messages::rollout_resumed(after, detail);
    let resumed = EventReason::RolloutResumed;
    turn.out.event(workload, resumed, hold_id(mark), note);
}

/// Tells one hold of a Deployment from another.
pub(super) fn hold_id(mark: HoldMark) -> String {
    mark.since
        .map(|since| since.to_string())
        .unwrap_or_default()
}
