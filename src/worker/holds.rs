//! Rollouts that wait: seen, said, and let go.
//!
//! That a rollout waits, and until when, is in the Deployment. What is kept here is what was said of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tracing::{info, warn};

use super::desk::Desk;
use super::notes;
use crate::event_recorder::EventReason;
use crate::hold::{Resumed, resume};
use headstart_core::api::hold_mark::HoldMark;
use headstart_core::api::mode::Mode;
use headstart_core::hold::{HoldEndReason, end_reason};
use headstart_core::image::ImageSetId;
use headstart_core::workload::{DeploymentKey, Workload};

/// Holds that are being ended at once: writes of users' objects, of which there are few at a time.
pub(super) const RESUMING: usize = 16;
/// When ending a hold is tried again that could not be ended.
const AGAIN: Duration = Duration::from_secs(5);
/// When a hold is looked at again that was ended and does not look so: far beyond any lag of a watch.
const UNSEEN: Duration = Duration::from_secs(60);

/// How long a rollout whose images are there waits for the kubelets to have taken down the prefetch pods that brought
/// them: within a second or two of the last, and meanwhile the first of its own pods would start the slower for it.
const SETTLING: Duration = Duration::from_secs(3);

/// A rollout that waits, as last seen.
#[derive(Debug)]
pub(super) struct Hold {
    workload: Arc<Workload>,
    held: HoldMark,
    /// Since when this process has seen it.
    seen: Instant,
    /// Since when its images have been where they were to be.
    warm: Option<Instant>,
    /// It was said for which images it waits.
    announced: Option<ImageSetId>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    /// It is being ended.
    Ending,
    /// It was ended, and the watch has not shown it yet.
    Ended(Instant),
    /// It could not be ended, and is left alone until then.
    Again(Instant),
}

/// What came of ending a hold.
#[derive(Debug)]
pub(super) struct Ended {
    workload: Arc<Workload>,
    held: HoldMark,
    ending: HoldEndReason,
    /// What is known of why.
    detail: String,
    resumed: Resumed,
}

impl Desk {
    /// Looks at every hold: time passes.
    pub(super) fn check_holds(&mut self) {
        // Those that were held are looked at too: somebody may have ended that.
        let mut keys: HashSet<DeploymentKey> = self.holds.keys().cloned().collect();
        keys.extend(self.worker.cluster.held());
        for key in keys {
            self.check_hold(&key);
        }
    }

    /// A prefetch pod changed: a rollout may wait for its end only.
    pub(super) fn check_settling(&mut self, key: &DeploymentKey) {
        if self.holds.get(key).is_some_and(|hold| hold.warm.is_some()) {
            self.check_hold(key);
        }
    }

    /// Looks at a Deployment's hold, if it has one.
    pub(super) fn check_hold(&mut self, key: &DeploymentKey) {
        let Some((workload, mode)) = self.worker.cluster.stored(key) else {
            self.holds.remove(key);
            return;
        };
        let Some(held) = workload.held else {
            self.hold_is_gone(key, &workload);
            return;
        };
        let fresh = || Hold {
            workload: workload.clone(),
            held,
            seen: Instant::now(),
            warm: None,
            announced: None,
            state: State::Waits,
        };
        let hold = self.holds.entry(key.clone()).or_insert_with(fresh);
        if hold.held.since != held.since || hold.workload.uid != workload.uid {
            // Another one, of which the watch did not show the beginning.
            *hold = fresh();
        }
        if hold.workload.image_set != workload.image_set {
            hold.warm = None;
        }
        hold.workload = workload.clone();
        hold.held = held;
        self.announce(key, mode);
        self.end_if_due(key, mode);
    }

    /// The marks are gone. If we did not take them away, somebody else did.
    fn hold_is_gone(&mut self, key: &DeploymentKey, now: &Workload) {
        let Some(hold) = self.holds.remove(key) else {
            return;
        };
        let ours = matches!(hold.state, State::Ending | State::Ended(_));
        if ours || hold.workload.uid != now.uid {
            return;
        }
        if now.paused && hold.held.paused {
            warn!(deployment = %key, "the mark of a hold was taken away, and the pause was not");
            let reporter = &self.worker.reporter;
            let note = notes::mark_is_gone();
            reporter.publish(now, EventReason::RolloutLeftPaused, &began(hold.held), note);
            return;
        }
        let ending = if hold.workload.image_set == now.image_set {
            HoldEndReason::ByHand
        } else {
            HoldEndReason::Updated
        };
        let detail = notes::why(ending, None, None);
        self.say_resumed(&hold.workload, hold.held, ending, &detail);
    }

    /// Says once for each set of images that the rollout waits, as soon as it is known for how many nodes.
    fn announce(&mut self, key: &DeploymentKey, mode: Mode) {
        let Some((hold, work)) = self.holds.get_mut(key).zip(self.works.get(key)) else {
            return;
        };
        let workload = &hold.workload;
        if mode != Mode::Hold
            || !hold.held.paused
            || !work.is_for(workload)
            || hold.announced.as_ref() == Some(&workload.image_set)
        {
            return;
        }
        hold.announced = Some(workload.image_set.clone());
        let note = notes::held(workload, hold.held, work.progress(Instant::now()).planned);
        info!(deployment = %key, until = ?hold.held.until, "held");
        self.worker
            .reporter
            .publish(workload, EventReason::RolloutHeld, &began(hold.held), note);
    }

    fn end_if_due(&mut self, key: &DeploymentKey, mode: Mode) {
        let ending_now = |hold: &&Hold| hold.state == State::Ending;
        let under_way = self.holds.values().filter(ending_now).count();
        let now = Instant::now();
        let Some(hold) = self.holds.get_mut(key) else {
            return;
        };
        let left_alone = match hold.state {
            State::Waits => false,
            State::Ending => true,
            State::Ended(at) => now < at + UNSEEN,
            State::Again(at) => now < at,
        };
        // The others have their turn when they are looked at next.
        if left_alone || under_way >= RESUMING {
            return;
        }
        let (workload, held) = (hold.workload.clone(), hold.held);
        let work = self.works.get(key).filter(|work| work.is_for(&workload));
        let progress = work.map(|work| work.progress(now));
        let ending = match self.worker.policy.holds {
            Some(limits) => {
                let seen_for = SignedDuration::try_from(hold.seen.elapsed());
                let seen_for = seen_for.unwrap_or(SignedDuration::MAX);
                let now = Timestamp::now();
                end_reason(&workload, held, mode, limits, seen_for, progress, now)
            }
            None => Some(HoldEndReason::SwitchedOff),
        };
        let Some(ending) = ending else { return };
        if ending == HoldEndReason::Warm {
            let since = *hold.warm.get_or_insert(now);
            if now < since + SETTLING && self.worker.cluster.has_running_pods(key) {
                return;
            }
        }
        let detail = notes::why(
            ending,
            progress,
            work.and_then(|work| work.trouble.as_deref()),
        );
        hold.state = State::Ending;
        let (client, endings, cancel) = (
            self.worker.client.clone(),
            self.endings.clone(),
            self.writes.clone(),
        );
        let end = async move {
            let of = ending.depends_on_images().then_some(&workload.image_set);
            let resumed = resume(&client, &workload.key, of).await;
            let ended = Ended {
                workload,
                held,
                ending,
                detail,
                resumed,
            };
            // Fails only when the worker has ended.
            let _ = endings.send(ended).await;
        };
        self.tasks.spawn(cancel.run_until_cancelled_owned(end));
    }

    /// It is known what came of ending a hold.
    pub(super) fn on_ended(&mut self, ended: Ended) {
        let Ended {
            workload,
            held,
            ending,
            detail,
            resumed,
        } = ended;
        let key = &workload.key;
        let now = Instant::now();
        if let Some(hold) = self.holds.get_mut(key)
            && hold.state == State::Ending
        {
            hold.state = match resumed {
                Resumed::Yes | Resumed::ByHand | Resumed::StaysPaused => State::Ended(now),
                Resumed::NotHeld | Resumed::Changed => State::Waits,
                Resumed::Failed(_) => State::Again(now + AGAIN),
            };
        }
        let reporter = &self.worker.reporter;
        match resumed {
            Resumed::Yes => self.say_resumed(&workload, held, ending, &detail),
            Resumed::ByHand => {
                let detail = notes::why(HoldEndReason::ByHand, None, None);
                self.say_resumed(&workload, held, HoldEndReason::ByHand, &detail);
            }
            Resumed::StaysPaused => {
                info!(deployment = %key, "stays paused: its manifest says so");
                let note = notes::left_paused(&detail);
                reporter.publish(
                    &workload,
                    EventReason::RolloutLeftPaused,
                    &began(held),
                    note,
                );
            }
            Resumed::NotHeld => {}
            // The watch brings what it is now.
            Resumed::Changed => self.check_hold(key),
            Resumed::Failed(reason) => {
                warn!(deployment = %key, error = %reason, "cannot resume a rollout");
                let note = notes::not_resumed(key, &reason);
                reporter.publish(
                    &workload,
                    EventReason::RolloutNotResumed,
                    &began(held),
                    note,
                );
            }
        }
    }

    fn say_resumed(
        &self,
        workload: &Workload,
        held: HoldMark,
        ending: HoldEndReason,
        detail: &str,
    ) {
        let after = held
            .since
            .map(|since| Timestamp::now().duration_since(since));
        let after = after.and_then(|after| Duration::try_from(after).ok());
        let after = after.unwrap_or_default();
        let reason = ending.reason();
        info!(deployment = %workload.key, reason, ?after, "resumed");
        self.worker.metrics.hold_ended(reason, after);
        let note = notes::resumed(after, detail);
        self.worker
            .reporter
            .publish(workload, EventReason::RolloutResumed, &began(held), note);
    }
}

/// Tells one hold of a Deployment from another.
fn began(held: HoldMark) -> String {
    held.since
        .map(|since| since.to_string())
        .unwrap_or_default()
}
