//! Held rollouts: reported, and resumed when their hold is over.
//!
//! The marks in the Deployment say that a rollout is held, and until when. Only what was reported of a hold is kept here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::command::{Command, CommandId, ResumeOutcome, WriteError};
use super::hold_entry::{HoldEntry, HoldState, SETTLE_TIMEOUT};
use super::hold_reports::{Resume, hold_id, report_resume, report_resumed};
use super::log::LogLine;
use super::messages;
use super::pulls::Pulls;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::api::mode::Mode;
use crate::event::EventReason;
use crate::hold::{HoldEndReason, end_reason};
use crate::workload::{DeploymentKey, Workload};

/// How many rollouts are resumed at once: writes of users' objects, of which there are few.
const MAX_RESUMES: usize = 16;
/// How often a resume is repeated at once because another client changed the Deployment meanwhile.
const MAX_CONFLICTS: u32 = 8;
/// How long a rollout waits that could not be resumed.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// How long the watch has to show a resumed rollout: far beyond its usual lag.
const WATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// All held rollouts.
#[derive(Debug, Default)]
pub(super) struct Holds {
    by_key: BTreeMap<DeploymentKey, HoldEntry>,
    in_flight: BTreeMap<CommandId, Resume>,
    /// Rollouts to resume when fewer resumes are in flight.
    waiting: BTreeSet<DeploymentKey>,
}

impl Holds {
    /// Returns how many rollouts are held.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns the Deployments whose rollout is held.
    pub(super) fn keys(&self) -> impl Iterator<Item = &DeploymentKey> {
        self.by_key.keys()
    }

    /// Returns whether the resume of a rollout is in flight.
    pub(super) fn is_resuming(&self, key: &DeploymentKey) -> bool {
        let mut resumes = self.in_flight.values();
        resumes.any(|resume| resume.workload.key == *key)
    }

    /// Returns whether a rollout waits for other resumes.
    pub(super) fn is_waiting(&self, key: &DeploymentKey) -> bool {
        self.waiting.contains(key)
    }

    /// Returns whether a hold is known that the pods of a Deployment may end.
    pub(super) fn is_settling(&self, key: &DeploymentKey) -> bool {
        let hold = self.by_key.get(key);
        hold.is_some_and(|hold| hold.present_since.is_some())
    }

    /// Brings a hold in line with the newest state of its Deployment, reports it, and ends it if it is over.
    pub(super) fn sync_hold(&mut self, pulls: &Pulls, key: &DeploymentKey, turn: &mut Turn<'_>) {
        let Some((workload, mode)) = turn.store.get(key) else {
            self.remove(key, turn);
            return;
        };
        let workload = workload.clone();
        let Some(mark) = workload.state.held else {
            self.on_hold_mark_removed(key, &workload, turn);
            return;
        };
        let new = || HoldEntry {
            workload: workload.clone(),
            mark,
            seen_at: turn.now.monotonic,
            present_since: None,
            reported: None,
            state: HoldState::Waiting,
        };
        let hold = self.by_key.entry(key.clone()).or_insert_with(new);
        if hold.mark.since != mark.since || hold.workload.uid != workload.uid {
            // Another hold; the watch did not show that the last one ended.
            *hold = new();
        }
        if hold.workload.image_set != workload.image_set {
            hold.present_since = None;
            // The pause was for a resume of the images before.
            if matches!(hold.state, HoldState::RetryAt(_)) {
                hold.state = HoldState::Waiting;
            }
        }
        hold.workload = workload;
        hold.mark = mark;
        self.report_held(pulls, key, mode, turn);
        self.resume_if_due(pulls, key, mode, turn);
        self.set_timer(key, mode, turn);
    }

    fn remove(&mut self, key: &DeploymentKey, turn: &mut Turn<'_>) -> Option<HoldEntry> {
        let removed = self.by_key.remove(key)?;
        self.waiting.remove(key);
        turn.timers.stop(&TimerKey::Hold(key.clone()));
        Some(removed)
    }

    /// Reports a hold whose mark is gone. If headstart did not remove it, another client did.
    fn on_hold_mark_removed(
        &mut self,
        key: &DeploymentKey,
        current: &Arc<Workload>,
        turn: &mut Turn<'_>,
    ) {
        let Some(hold) = self.remove(key, turn) else {
            return;
        };
        let ours = matches!(
            hold.state,
            HoldState::Resuming | HoldState::AwaitingWatch(_)
        );
        if ours || hold.workload.uid != current.uid {
            return;
        }
        if current.state.paused && hold.mark.paused {
            turn.out.logs.push(LogLine::HoldMarkRemoved(key.clone()));
            let left = EventReason::RolloutLeftPaused;
            let note = messages::hold_mark_removed();
            turn.out.event(current, left, hold_id(hold.mark), note);
            return;
        }
        let reason = if hold.workload.image_set == current.image_set {
            HoldEndReason::ByHand
        } else {
            HoldEndReason::Updated
        };
        let detail = messages::hold_end_reason(reason, None, None);
        report_resumed(&hold.workload, hold.mark, reason, &detail, turn);
    }

    /// Reports a hold once for each image set, as soon as its plan is known.
    fn report_held(&mut self, pulls: &Pulls, key: &DeploymentKey, mode: Mode, turn: &mut Turn<'_>) {
        let prefetch = pulls.prefetches.get(key);
        let Some((hold, prefetch)) = self.by_key.get_mut(key).zip(prefetch) else {
            return;
        };
        let workload = &hold.workload;
        if mode != Mode::Hold
            || !hold.mark.paused
            || !prefetch.has_same_images(workload)
            || hold.reported.as_ref() == Some(&workload.image_set)
        {
            return;
        }
        hold.reported = Some(workload.image_set.clone());
        let planned = prefetch.progress(turn.now.monotonic).planned;
        let note = messages::rollout_held(workload, hold.mark, planned);
        turn.out.logs.push(LogLine::Held {
            key: key.clone(),
            until: hold.mark.until,
        });
        let held = EventReason::RolloutHeld;
        turn.out.event(workload, held, hold_id(hold.mark), note);
    }

    /// Resumes a rollout whose hold is over.
    fn resume_if_due(
        &mut self,
        pulls: &Pulls,
        key: &DeploymentKey,
        mode: Mode,
        turn: &mut Turn<'_>,
    ) {
        let now = turn.now.monotonic;
        let Some(hold) = self.by_key.get_mut(key) else {
            return;
        };
        match hold.state {
            HoldState::Waiting => {}
            HoldState::Resuming => return,
            HoldState::AwaitingWatch(until) | HoldState::RetryAt(until) if now < until => return,
            HoldState::AwaitingWatch(_) | HoldState::RetryAt(_) => hold.state = HoldState::Waiting,
        }
        let prefetch = pulls.prefetches.get(key);
        let prefetch = prefetch.filter(|prefetch| prefetch.has_same_images(&hold.workload));
        let progress = prefetch.map(|prefetch| prefetch.progress(now));
        let reason = match turn.config.holds {
            Some(limits) => {
                let seen_for = turn.now.signed_since(hold.seen_at);
                let (workload, wall) = (&hold.workload, turn.now.wall);
                end_reason(workload, hold.mark, mode, limits, seen_for, progress, wall)
            }
            None => Some(HoldEndReason::SwitchedOff),
        };
        let Some(reason) = reason else { return };
        if reason == HoldEndReason::Warm {
            let since = *hold.present_since.get_or_insert(now);
            if now < since + SETTLE_TIMEOUT && turn.store.has_unfinished_pods(key) {
                return;
            }
        }
        if self.in_flight.len() >= MAX_RESUMES {
            self.waiting.insert(key.clone());
            return;
        }
        hold.state = HoldState::Resuming;
        let last_error = prefetch.and_then(|prefetch| prefetch.reports.last_error.as_deref());
        let resume = Resume {
            workload: hold.workload.clone(),
            mark: hold.mark,
            reason,
            detail: messages::hold_end_reason(reason, progress, last_error),
            conflicts: 0,
        };
        self.send(resume, turn);
    }

    fn send(&mut self, resume: Resume, turn: &mut Turn<'_>) {
        let id = turn.command_id();
        let of_images = resume.reason.depends_on_images();
        turn.out.commands.push(Command::ResumeRollout {
            id,
            key: resume.workload.key.clone(),
            only_if: of_images.then(|| resume.workload.image_set.clone()),
        });
        self.in_flight.insert(id, resume);
    }

    /// Takes the answer to a resume.
    pub(super) fn on_resume_finished(
        &mut self,
        id: CommandId,
        result: Result<ResumeOutcome, WriteError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(mut resume) = self.in_flight.remove(&id) else {
            return;
        };
        let result = match result {
            Ok(ResumeOutcome::Conflict) => {
                resume.conflicts += 1;
                if resume.conflicts < MAX_CONFLICTS {
                    return self.send(resume, turn);
                }
                Err(format!("it was changed {MAX_CONFLICTS} times meanwhile"))
            }
            Ok(outcome) => Ok(outcome),
            // As if there were no hold: nothing is reported, and nothing is sent at once.
            Err(error) if error.is_end_of_lease() => Ok(ResumeOutcome::NotHeld),
            Err(error) => Err(error.message().to_owned()),
        };
        for key in std::mem::take(&mut self.waiting) {
            turn.mark_changed(&key);
        }
        let key = &resume.workload.key;
        turn.mark_changed(key);
        let now = turn.now.monotonic;
        if let Some(hold) = self.by_key.get_mut(key)
            && hold.state == HoldState::Resuming
        {
            let other_images = hold.workload.image_set != resume.workload.image_set;
            hold.state = match result {
                // The store shows these images already.
                Ok(ResumeOutcome::ImagesChanged) if other_images => HoldState::Waiting,
                // The watch is behind the API server. Asked again at once, it would give the same answer.
                Ok(ResumeOutcome::NotHeld | ResumeOutcome::ImagesChanged) | Err(_) => {
                    HoldState::RetryAt(now + RETRY_DELAY)
                }
                Ok(_) => HoldState::AwaitingWatch(now + WATCH_TIMEOUT),
            };
        }
        report_resume(&resume, result, turn);
    }

    /// Sets the timer for the next check of a hold.
    fn set_timer(&self, key: &DeploymentKey, mode: Mode, turn: &mut Turn<'_>) {
        let Some(hold) = self.by_key.get(key) else {
            return;
        };
        let next = match hold.state {
            HoldState::Resuming => return,
            HoldState::AwaitingWatch(until) | HoldState::RetryAt(until) => until,
            HoldState::Waiting => hold.next_check(mode, turn),
        };
        turn.timers.set(TimerKey::Hold(key.clone()), next);
    }
}
