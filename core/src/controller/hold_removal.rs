//! Reports the end of a hold that the watch shows before an answer does, or without one.

use std::sync::Arc;

use super::command::{ResumeOutcome, WriteError};
use super::hold_entry::HoldEntry;
use super::hold_reports::{Resume, ResumeError, hold_id, report_resume, report_resumed};
use super::log::LogLine;
use super::messages;
use super::turn::Turn;
use crate::event::EventReason;
use crate::hold::{HoldEndReason, Removal, removal};
use crate::workload::Workload;

/// Reports a hold whose mark is gone. If headstart did not remove it, another client did.
pub(super) fn report_removal(hold: &HoldEntry, current: &Arc<Workload>, turn: &mut Turn<'_>) {
    if hold.workload.uid != current.uid {
        return;
    }
    let left_paused = current.state.paused && hold.mark.paused;
    let same_images = hold.workload.image_set == current.image_set;
    let reason = match removal(hold.state, left_paused, same_images) {
        Removal::Ours => return,
        Removal::LeftPaused => {
            let key = current.key.clone();
            turn.out.logs.push(LogLine::HoldMarkRemoved(key));
            let left = EventReason::RolloutLeftPaused;
            let note = messages::hold_mark_removed();
            turn.out.event(current, left, hold_id(hold.mark), note);
            return;
        }
        Removal::ByHand => HoldEndReason::ByHand,
        Removal::Updated => HoldEndReason::Updated,
    };
    match &hold.unanswered {
        // It had been done, though the answer was lost.
        Some(resume) if reason == HoldEndReason::ByHand => {
            report_resume(resume, ResumeOutcome::Resumed, turn);
        }
        _ => {
            let detail = messages::hold_end_reason(reason, None, None);
            report_resumed(&hold.workload, hold.mark, reason, &detail, turn);
        }
    }
}

/// Reports the answer to a resume whose hold is gone from the store.
pub(super) fn report_late_answer(
    resume: &Resume,
    result: Result<ResumeOutcome, ResumeError>,
    turn: &mut Turn<'_>,
) {
    let outcome = match result {
        // Another client ended the hold meanwhile.
        Ok(ResumeOutcome::NotHeld | ResumeOutcome::ImagesChanged)
        | Err(
            ResumeError::Conflicts(_)
            | ResumeError::Write(
                WriteError::Refused { .. } | WriteError::Unavailable { .. } | WriteError::NotLeader,
            ),
        ) => ResumeOutcome::AlreadyResumed,
        Err(ResumeError::Write(WriteError::Unknown(_) | WriteError::LeaseEnded)) => {
            ResumeOutcome::Resumed
        }
        Ok(outcome) => return report_resume(resume, outcome, turn),
    };
    let current = turn.store.get(&resume.workload.key);
    let goes_on = current.is_some_and(|(current, _)| {
        let state = &current.state;
        current.uid == resume.workload.uid && state.held.is_none() && !state.paused
    });
    if goes_on {
        report_resume(resume, outcome, turn);
    }
}
