//! The states of a hold, and the inputs that move it from one to the next.

use std::time::Duration;

use super::HoldEndReason;
use crate::time::Instant;

/// The time for which a rollout with all images present waits for the kubelets to remove the prefetch pods. They take a second
/// or two after the last pull, and meanwhile the rollout's first pods would start slower.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// The time that the watch has to show a resumed rollout: far beyond its usual lag.
const WATCH_TIMEOUT: Duration = Duration::from_secs(60);
/// First and longest pause before a rollout is resumed again that could not be resumed.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// The state of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// It waits for its images.
    Waiting,
    /// Its images are present since this time. The kubelets remove the prefetch pods.
    Settling(Instant),
    /// Its resume is in flight.
    Resuming {
        /// The number of resumes that have failed before, in a row.
        failures: u32,
    },
    /// It could not be resumed.
    RetryAt {
        /// The time at which it is tried again.
        at: Instant,
        /// The number of resumes that have failed, in a row.
        failures: u32,
    },
    /// It was resumed. The watch has until this time to show it.
    AwaitingWatch(Instant),
}

/// An input that can move a hold to another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldInput {
    /// The hold was checked.
    Checked {
        /// The reason why it ends now; `None` if it goes on.
        end: Option<HoldEndReason>,
        /// The kubelets have not removed all prefetch pods.
        has_unfinished_pods: bool,
    },
    /// The Deployment waits for other images than before.
    ImagesChanged,
    /// The rollout goes on, or was left paused: the marks are gone.
    Resumed,
    /// The resume found other images than the ones it was for, and the store shows them.
    FoundOtherImages,
    /// The resume found other images, or no hold, and the store does not show that yet.
    FoundUnseenChange,
    /// The resume failed.
    ResumeFailed,
}

/// The action of a hold that moves to another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldAction {
    /// Nothing.
    None,
    /// The rollout is resumed.
    Resume(HoldEndReason),
}

/// Returns the next state of a hold, and the action.
///
/// | from | on | to | action |
/// |---|---|---|---|
/// | Waiting | images present, prefetch pods left | Settling | |
/// | Waiting | another reason to end; images present, no pods left | Resuming | resume |
/// | Settling | no pods left, 3 s over, another reason to end | Resuming | resume |
/// | Settling | no reason to end any more | Waiting | |
/// | Waiting, Settling, RetryAt | other images | Waiting | |
/// | Resuming | resumed | AwaitingWatch, 60 s | |
/// | Resuming | found other images that the store shows | Waiting | |
/// | Resuming | found other images or no hold, unseen yet | RetryAt, 5 s | |
/// | Resuming | failed | RetryAt, 5 s doubled to 60 s | |
/// | RetryAt, its time over | a reason to end / none | Resuming / Waiting | resume / |
/// | AwaitingWatch, its time over | checked | as Waiting | |
pub fn next_state(state: HoldState, input: HoldInput, now: Instant) -> (HoldState, HoldAction) {
    use HoldState::{AwaitingWatch, Resuming, RetryAt, Settling, Waiting};
    let stay = |state| (state, HoldAction::None);
    match (state, input) {
        (
            state,
            HoldInput::Checked {
                end,
                has_unfinished_pods,
            },
        ) => on_check(state, end, has_unfinished_pods, now),
        // The pause was for a resume of the images before.
        (Waiting | Settling(_) | RetryAt { .. }, HoldInput::ImagesChanged) => stay(Waiting),
        (Resuming { .. } | AwaitingWatch(_), HoldInput::ImagesChanged) => stay(state),
        (Resuming { .. }, HoldInput::Resumed) => stay(AwaitingWatch(now + WATCH_TIMEOUT)),
        (Resuming { .. }, HoldInput::FoundOtherImages) => stay(Waiting),
        // The watch is behind the API server. Asked again at once, it would give the same answer.
        (Resuming { failures }, HoldInput::FoundUnseenChange) => stay(RetryAt {
            at: now + RETRY_DELAY.0,
            failures,
        }),
        (Resuming { failures }, HoldInput::ResumeFailed) => {
            let failures = failures.saturating_add(1);
            stay(RetryAt {
                at: now + retry_delay(failures),
                failures,
            })
        }
        // An answer to the resume of another hold.
        (
            state,
            HoldInput::Resumed
            | HoldInput::FoundOtherImages
            | HoldInput::FoundUnseenChange
            | HoldInput::ResumeFailed,
        ) => stay(state),
    }
}

fn on_check(
    state: HoldState,
    end: Option<HoldEndReason>,
    has_unfinished_pods: bool,
    now: Instant,
) -> (HoldState, HoldAction) {
    use HoldState::{AwaitingWatch, Resuming, RetryAt, Settling, Waiting};
    match state {
        Resuming { .. } => return (state, HoldAction::None),
        AwaitingWatch(until) | RetryAt { at: until, .. } if now < until => {
            return (state, HoldAction::None);
        }
        _ => {}
    }
    let Some(reason) = end else {
        return (Waiting, HoldAction::None);
    };
    let (settled_at, failures) = match state {
        Waiting | AwaitingWatch(_) => (now + SETTLE_TIMEOUT, 0),
        Settling(since) => (since + SETTLE_TIMEOUT, 0),
        // It has settled before.
        RetryAt { failures, .. } | Resuming { failures } => (now, failures),
    };
    if reason == HoldEndReason::Warm && has_unfinished_pods && now < settled_at {
        let since = match state {
            Settling(since) => since,
            _ => now,
        };
        return (Settling(since), HoldAction::None);
    }
    (Resuming { failures }, HoldAction::Resume(reason))
}

/// Returns the pause after so many failed resumes.
fn retry_delay(failures: u32) -> Duration {
    let (first, longest) = RETRY_DELAY;
    let doublings = failures.saturating_sub(1).min(8);
    first.saturating_mul(1 << doublings).min(longest)
}

/// The end of a hold whose mark is gone from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// headstart ended it, and reports it with the answer to the resume.
    Ours,
    /// Another client removed the mark and left the pause.
    LeftPaused,
    /// Another client resumed the rollout.
    ByHand,
    /// An update ended it.
    Updated,
}

/// Returns how a hold in this state ended, if its mark is gone. `left_paused` says that it was paused and still is,
/// `same_images` that the Deployment has the same images.
pub fn removal(state: HoldState, left_paused: bool, same_images: bool) -> Removal {
    match state {
        HoldState::Resuming { .. } | HoldState::AwaitingWatch(_) => Removal::Ours,
        _ if left_paused => Removal::LeftPaused,
        _ if same_images => Removal::ByHand,
        _ => Removal::Updated,
    }
}
