//! Reports the end of a hold.

use std::sync::Arc;
use std::time::Duration;

use super::command::ResumeOutcome;
use super::log::LogLine;
use super::messages;
use super::observation::Observation;
use super::turn::Turn;
use crate::api::hold_mark::HoldMark;
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
    /// How often another client changed the Deployment meanwhile.
    pub(super) conflicts: u32,
}

/// Reports what came of a resume.
pub(super) fn report_resume(
    resume: &Resume,
    result: Result<ResumeOutcome, String>,
    turn: &mut Turn<'_>,
) {
    let Resume {
        workload,
        mark,
        reason,
        detail,
        ..
    } = resume;
    let key = &workload.key;
    match result {
        Ok(ResumeOutcome::Resumed) => report_resumed(workload, *mark, *reason, detail, turn),
        Ok(ResumeOutcome::AlreadyResumed) => {
            let detail = messages::hold_end_reason(HoldEndReason::ByHand, None, None);
            report_resumed(workload, *mark, HoldEndReason::ByHand, &detail, turn);
        }
        Ok(ResumeOutcome::LeftPaused) => {
            turn.out.logs.push(LogLine::LeftPaused(key.clone()));
            let note = messages::rollout_left_paused(detail);
            let left = EventReason::RolloutLeftPaused;
            turn.out.event(workload, left, hold_id(*mark), note);
        }
        // The watch brings the newest state.
        Ok(ResumeOutcome::NotHeld | ResumeOutcome::ImagesChanged | ResumeOutcome::Conflict) => {}
        Err(error) => {
            let note = messages::rollout_not_resumed(key, &error);
            turn.out.logs.push(LogLine::NotResumed {
                key: key.clone(),
                error,
            });
            let failed = EventReason::RolloutNotResumed;
            turn.out.event(workload, failed, hold_id(*mark), note);
        }
    }
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
