//! Each row of the table of states.

use std::time::Duration;

use crate::hold::HoldAction::{None as Nothing, Resume};
use crate::hold::HoldEndReason::{Blocked, Deadline, ImageFailed, NoNode, NotAsked, Warm};
use crate::hold::HoldInput::{
    FoundOtherImages, FoundUnseenChange, ImagesChanged, ResumeFailed, Resumed,
};
use crate::hold::HoldState::{AwaitingWatch, Resuming, RetryAt, Settling, Waiting};
use crate::hold::{HoldAction, HoldEndReason, HoldInput, HoldState, Removal, next_state, removal};
use crate::time::Instant;

fn at(millis: u64) -> Instant {
    Instant::after_start(Duration::from_millis(millis))
}

fn checked(end: Option<HoldEndReason>, has_unfinished_pods: bool) -> HoldInput {
    HoldInput::Checked {
        end,
        has_unfinished_pods,
    }
}

/// The next state at second 100.
fn next(state: HoldState, input: HoldInput) -> (HoldState, HoldAction) {
    next_state(state, input, at(100_000))
}

const RESUMING: HoldState = Resuming { failures: 0 };

#[test]
fn a_hold_goes_on_while_nothing_ends_it() {
    assert_eq!(next(Waiting, checked(None, true)), (Waiting, Nothing));
}

#[test]
fn a_hold_whose_images_are_present_settles_while_pods_are_left() {
    let settling = (Settling(at(100_000)), Nothing);
    assert_eq!(next(Waiting, checked(Some(Warm), true)), settling);
    let resuming = (RESUMING, Resume(Warm));
    assert_eq!(next(Waiting, checked(Some(Warm), false)), resuming);
}

#[test]
fn any_other_reason_ends_a_hold_at_once() {
    for reason in [Deadline, ImageFailed, NoNode, Blocked, NotAsked] {
        for state in [Waiting, Settling(at(99_000))] {
            let resuming = (RESUMING, Resume(reason));
            assert_eq!(next(state, checked(Some(reason), true)), resuming);
        }
    }
}

#[test]
fn a_settled_hold_is_resumed_when_no_pod_is_left_or_after_three_seconds() {
    let warm = |pods| checked(Some(Warm), pods);
    let since = Settling(at(97_001));
    assert_eq!(next(since, warm(true)), (since, Nothing));
    assert_eq!(next(since, warm(false)), (RESUMING, Resume(Warm)));
    let long = Settling(at(97_000));
    assert_eq!(next(long, warm(true)), (RESUMING, Resume(Warm)));
}

#[test]
fn a_hold_whose_images_are_not_present_any_more_waits_again() {
    let settling = Settling(at(99_000));
    assert_eq!(next(settling, checked(None, true)), (Waiting, Nothing));
}

#[test]
fn other_images_are_waited_for_unless_a_resume_was_sent() {
    let retry = RetryAt {
        at: at(101_000),
        failures: 3,
    };
    for state in [Waiting, Settling(at(99_000)), retry] {
        assert_eq!(next(state, ImagesChanged), (Waiting, Nothing));
    }
    for state in [RESUMING, AwaitingWatch(at(101_000))] {
        assert_eq!(next(state, ImagesChanged), (state, Nothing));
    }
}

#[test]
fn nothing_is_sent_while_a_resume_is_in_flight() {
    let check = checked(Some(Deadline), false);
    assert_eq!(next(RESUMING, check), (RESUMING, Nothing));
}

#[test]
fn a_resumed_rollout_is_waited_for_a_minute() {
    let awaiting = AwaitingWatch(at(160_000));
    assert_eq!(next(RESUMING, Resumed), (awaiting, Nothing));
    let check = checked(Some(Warm), true);
    let early = AwaitingWatch(at(100_001));
    assert_eq!(next(early, check), (early, Nothing));
    let over = AwaitingWatch(at(100_000));
    assert_eq!(next(over, check), (Settling(at(100_000)), Nothing));
    assert_eq!(next(over, checked(None, false)), (Waiting, Nothing));
    let again = (RESUMING, Resume(NoNode));
    assert_eq!(next(over, checked(Some(NoNode), false)), again);
}

#[test]
fn a_resume_that_finds_other_images_waits_for_them_once_the_store_shows_them() {
    assert_eq!(next(RESUMING, FoundOtherImages), (Waiting, Nothing));
    let retry = RetryAt {
        at: at(105_000),
        failures: 0,
    };
    assert_eq!(next(RESUMING, FoundUnseenChange), (retry, Nothing));
}

#[test]
fn a_failed_resume_is_repeated_after_five_seconds_doubled_to_a_minute() {
    let mut state = RESUMING;
    for (failures, pause) in (1..).zip([5, 10, 20, 40, 60, 60]) {
        let retry = RetryAt {
            at: at(100_000 + pause * 1000),
            failures,
        };
        assert_eq!(next(state, ResumeFailed), (retry, Nothing));
        state = Resuming { failures };
    }
}

#[test]
fn a_retry_is_due_with_its_time_and_needs_no_second_settling() {
    let warm = checked(Some(Warm), true);
    let retry = |millis| RetryAt {
        at: at(millis),
        failures: 2,
    };
    assert_eq!(next(retry(100_001), warm), (retry(100_001), Nothing));
    let resuming = (Resuming { failures: 2 }, Resume(Warm));
    assert_eq!(next(retry(100_000), warm), resuming);
    let goes_on = checked(None, true);
    assert_eq!(next(retry(100_000), goes_on), (Waiting, Nothing));
}

#[test]
fn an_answer_to_another_holds_resume_changes_nothing() {
    for input in [Resumed, FoundOtherImages, FoundUnseenChange, ResumeFailed] {
        assert_eq!(next(Waiting, input), (Waiting, Nothing));
    }
}

#[test]
fn a_mark_that_is_gone_is_headstarts_doing_only_after_a_resume() {
    for state in [RESUMING, AwaitingWatch(at(101_000))] {
        assert_eq!(removal(state, true, true), Removal::Ours);
    }
    let retry = RetryAt {
        at: at(101_000),
        failures: 1,
    };
    for state in [Waiting, Settling(at(99_000)), retry] {
        assert_eq!(removal(state, true, true), Removal::LeftPaused);
        assert_eq!(removal(state, false, true), Removal::ByHand);
        assert_eq!(removal(state, false, false), Removal::Updated);
    }
}
