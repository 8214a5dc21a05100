//! Held rollouts: reported, and resumed when their hold is over.
//!
//! The marks in the Deployment say that a rollout is held, and until when. Only what was reported of a hold is kept here.

use std::collections::BTreeMap;

use super::command::{Command, CommandId, ResumeOutcome, WriteError};
use super::hold_entry::HoldEntry;
use super::hold_removal::{report_late_answer, report_removal};
use super::hold_reports::{Resume, ResumeError, report_held, report_not_resumed, report_resume};
use super::messages;
use super::prefetch::Prefetch;
use super::pulls::Pulls;
use super::resumes::Resumes;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::api::hold_mark::HoldId;
use crate::api::mode::Mode;
use crate::hold::{HoldAction, HoldInput, HoldState, ResumeHealth, next_state};
use crate::time::Instant;
use crate::workload::DeploymentKey;

/// The number of conflicts after which a resume fails. After each of the others it is repeated at once. In a conflict
/// another client changed the Deployment between the read and the write.
const MAX_CONFLICTS: u32 = 8;

/// All held rollouts.
#[derive(Debug, Default)]
pub(super) struct Holds {
    by_key: BTreeMap<DeploymentKey, HoldEntry>,
    resumes: Resumes,
    /// The time at which a rollout was last resumed.
    last_success: Option<Instant>,
    /// The webhook configuration is deleted.
    unregistered: bool,
    /// The number of checks of holds.
    #[cfg(test)]
    pub(super) checks: usize,
}

impl Holds {
    /// Returns how many rollouts are held.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns whether holds that are over are resumed.
    pub(super) fn health(&self, now: Instant) -> ResumeHealth {
        let over = self.by_key.values().filter_map(|hold| hold.over_since);
        ResumeHealth::judge(over, self.last_success, now)
    }

    /// Records whether the webhook configuration is there. Without it every hold ends.
    pub(super) fn set_registered(&mut self, registered: bool, turn: &mut Turn<'_>) {
        if self.unregistered != registered {
            return;
        }
        self.unregistered = !registered;
        for key in turn.store.held_deployments() {
            turn.mark_changed(key);
        }
    }

    /// Returns whether a hold is known that the end of its last prefetch pod may end.
    pub(super) fn is_settling(&self, key: &DeploymentKey) -> bool {
        let hold = self.by_key.get(key);
        hold.is_some_and(|hold| matches!(hold.state, HoldState::Settling(_)))
    }

    /// Brings a hold in line with the newest state of its Deployment, reports it, and ends it if it is over.
    pub(super) fn sync_hold(&mut self, pulls: &Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
        self.sync(pulls, key, false, turn);
    }

    /// Gives free places to the holds that wait for one.
    pub(super) fn start_waiting(&mut self, pulls: &Pulls, turn: &mut Turn<'_>) {
        while let Some(key) = self.resumes.pop() {
            self.sync(pulls, &key, true, turn);
        }
    }

    fn sync(&mut self, pulls: &Pulls, key: &DeploymentKey, is_next: bool, turn: &mut Turn<'_>) {
        let Some((workload, mode)) = turn.store.get(key) else {
            self.remove(key, turn);
            return;
        };
        let workload = workload.clone();
        let Some(mark) = workload.state.held else {
            if let Some(hold) = self.remove(key, turn) {
                report_removal(&hold, &workload, turn);
            }
            return;
        };
        #[cfg(test)]
        {
            self.checks += 1;
        }
        let now = turn.now.monotonic;
        let new = || HoldEntry::new(workload.clone(), mark, now);
        let hold = self.by_key.entry(key.clone()).or_insert_with(new);
        let id = HoldId {
            uid: workload.uid.clone(),
            since: mark.since,
        };
        if hold.id() != id {
            // Another hold; the watch did not show that the last one ended.
            *hold = new();
        }
        if hold.workload.image_set != workload.image_set {
            hold.state = next_state(hold.state, HoldInput::ImagesChanged, now).0;
        }
        hold.workload = workload;
        hold.mark = mark;
        let prefetch = pulls.prefetches.get(key);
        let prefetch = prefetch.filter(|prefetch| prefetch.has_same_images(&hold.workload));
        if let Some(prefetch) = prefetch
            && hold.take_unreported(mode)
        {
            report_held(&hold.workload, hold.mark, prefetch, turn);
        }
        let waits = self.resume_if_over(key, prefetch, mode, is_next, turn);
        let hold = self.by_key.get(key).filter(|_| !waits);
        let next = hold.and_then(|hold| hold.next_check(prefetch, mode, turn));
        set_timer(key, next, turn);
    }

    /// Checks a hold, and sends its resume if it is over. Returns whether it waits for a place.
    fn resume_if_over(
        &mut self,
        key: &DeploymentKey,
        prefetch: Option<&Prefetch>,
        mode: Mode,
        is_next: bool,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(hold) = self.by_key.get_mut(key) else {
            return false;
        };
        let (input, progress) = hold.check(!self.unregistered, prefetch, mode, turn);
        let (state, action) = next_state(hold.state, input, turn.now.monotonic);
        let HoldAction::Resume(reason) = action else {
            hold.state = state;
            if matches!(state, HoldState::Waiting | HoldState::Settling(_)) {
                hold.over_since = None;
            }
            self.resumes.remove(key);
            return false;
        };
        hold.over_since.get_or_insert(turn.now.monotonic);
        if !self.resumes.may_start(key, is_next) {
            // Its state stays as it is until a place is free.
            self.resumes.push(key);
            return true;
        }
        self.resumes.remove(key);
        hold.state = state;
        let last_error = prefetch.and_then(|prefetch| prefetch.reports.last_error.as_deref());
        let resume = Resume {
            workload: hold.workload.clone(),
            mark: hold.mark,
            reason,
            detail: messages::hold_end_reason(reason, progress, last_error),
            conflicts: 0,
        };
        let id = self.send(resume, turn);
        if let Some(hold) = self.by_key.get_mut(key) {
            hold.resume = Some(id);
        }
        false
    }

    fn send(&mut self, resume: Resume, turn: &mut Turn<'_>) -> CommandId {
        let id = turn.command_id();
        let of_images = resume.reason.depends_on_images();
        turn.out.commands.push(Command::ResumeRollout {
            id,
            key: resume.workload.key.clone(),
            hold: resume.hold_id(),
            only_if: of_images.then(|| resume.workload.image_set.clone()),
        });
        self.resumes.start(id, resume);
        id
    }

    /// Takes the answer to a resume.
    pub(super) fn on_resume_finished(
        &mut self,
        id: CommandId,
        result: Result<ResumeOutcome, WriteError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(mut resume) = self.resumes.finish(id) else {
            return;
        };
        let key = resume.workload.key.clone();
        let result = match result {
            Ok(ResumeOutcome::Conflict) => {
                resume.conflicts += 1;
                if resume.conflicts < MAX_CONFLICTS {
                    let again = self.send(resume, turn);
                    if let Some(hold) = self.resuming(&key, id) {
                        hold.resume = Some(again);
                    }
                    return;
                }
                Err(ResumeError::Conflicts(resume.conflicts))
            }
            Ok(outcome) => Ok(outcome),
            // As if there were no hold: nothing is reported, and nothing is sent at once.
            Err(error) if error.is_end_of_lease() => Ok(ResumeOutcome::NotHeld),
            Err(error) => Err(ResumeError::Write(error)),
        };
        turn.mark_changed(&key);
        if result.as_ref().is_ok_and(|outcome| outcome.is_end()) {
            self.last_success = Some(turn.now.monotonic);
        }
        let Some(hold) = self.resuming(&key, id) else {
            return report_late_answer(&resume, result, turn);
        };
        hold.resume = None;
        let input = hold.answer(&resume, &result);
        hold.state = next_state(hold.state, input, turn.now.monotonic).0;
        if input == HoldInput::Resumed {
            hold.over_since = None;
        }
        match result {
            Ok(outcome) => report_resume(&resume, outcome, turn),
            Err(error) => {
                if hold.reported_failures.insert(error.class()) {
                    report_not_resumed(&resume, &error, turn);
                }
                if matches!(error, ResumeError::Write(WriteError::Unknown(_))) {
                    hold.unanswered = Some(resume);
                }
            }
        }
    }

    /// Returns the hold that a resume is for, unless it is gone.
    fn resuming(&mut self, key: &DeploymentKey, id: CommandId) -> Option<&mut HoldEntry> {
        let hold = self.by_key.get_mut(key)?;
        (hold.resume == Some(id)).then_some(hold)
    }

    fn remove(&mut self, key: &DeploymentKey, turn: &mut Turn<'_>) -> Option<HoldEntry> {
        let removed = self.by_key.remove(key)?;
        self.resumes.remove(key);
        turn.timers.stop(&TimerKey::Hold(key.clone()));
        Some(removed)
    }

    /// Checks that something moves on each hold, and that the places for resumes are counted right. `has_timer` says whether a
    /// Deployment's hold has a timer.
    ///
    /// # Errors
    /// Names the inconsistency.
    pub(super) fn check(&self, has_timer: impl Fn(&DeploymentKey) -> bool) -> Result<(), String> {
        self.resumes.check()?;
        for key in self.resumes.waiting() {
            if !self.by_key.contains_key(key) {
                return Err(format!("{key} waits for a place, and is not held"));
            }
        }
        for (key, hold) in &self.by_key {
            let in_flight = hold.resume.is_some_and(|id| self.resumes.is_in_flight(id));
            let is_resuming = matches!(hold.state, HoldState::Resuming { .. });
            let moved_by = [in_flight, self.resumes.is_waiting(key), has_timer(key)];
            let count = moved_by.into_iter().filter(|moves| *moves).count();
            if count != 1 || in_flight != is_resuming {
                return Err(format!(
                    "{key}: a hold in state {:?} has (a resume, a place in the queue, a timer): {moved_by:?}",
                    hold.state
                ));
            }
        }
        Ok(())
    }
}

/// Sets the timer of a hold, or stops it where there is none: a resume is in flight, or the hold waits for a place.
fn set_timer(key: &DeploymentKey, at: Option<Instant>, turn: &mut Turn<'_>) {
    let timer = TimerKey::Hold(key.clone());
    match at {
        Some(at) => turn.timers.set(timer, at),
        None => turn.timers.stop(&timer),
    }
}
