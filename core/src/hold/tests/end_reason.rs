//! The condition that ends a hold.

use super::*;

fn ended(workload: &Workload, progress: Option<Progress>, now: i64) -> Option<HoldEndReason> {
    let held = workload.state.held.unwrap();
    let no_time = SignedDuration::ZERO;
    end_reason(
        workload,
        held,
        Mode::Hold,
        LIMITS,
        no_time,
        progress,
        at(now),
    )
}

fn progress(planned: usize, present: usize) -> Progress {
    Progress {
        planned,
        present,
        pending: planned - present,
        ..Progress::default()
    }
}

#[test]
fn a_hold_ends_when_the_images_are_there() {
    let web = held("app:2", json!({}));
    assert_eq!(ended(&web, None, 200), None, "no plan yet");
    assert_eq!(ended(&web, Some(progress(3, 2)), 200), None);
    assert_eq!(
        ended(&web, Some(progress(3, 3)), 200),
        Some(HoldEndReason::Warm)
    );
}

#[test]
fn a_share_of_the_nodes_is_enough_where_it_is_asked_for() {
    let most = json!({ "metadata": { "annotations": { "headstart.dev/hold-until": "90%" } } });
    let web = held("app:2", most);
    assert_eq!(ended(&web, Some(progress(10, 8)), 200), None);
    assert_eq!(
        ended(&web, Some(progress(10, 9)), 200),
        Some(HoldEndReason::Warm)
    );
}

#[test]
fn nodes_with_troubles_of_their_own_are_not_waited_for() {
    let web = held("app:2", json!({}));
    let lost = Progress {
        abandoned: 1,
        pending: 1,
        ..progress(3, 1)
    };
    assert_eq!(ended(&web, Some(lost), 200), None, "one is to come");
    let rest = Progress {
        abandoned: 1,
        pending: 0,
        ..progress(3, 2)
    };
    assert_eq!(ended(&web, Some(rest), 200), Some(HoldEndReason::Warm));
    let none = Progress {
        abandoned: 3,
        pending: 0,
        ..progress(3, 0)
    };
    assert_eq!(ended(&web, Some(none), 200), Some(HoldEndReason::NoNode));
}

#[test]
fn a_hold_ends_when_it_can_come_to_nothing() {
    let web = held("app:2", json!({}));
    let failing = Progress {
        failed: 1,
        ..progress(3, 1)
    };
    let refused = Progress {
        refused: true,
        ..progress(3, 0)
    };
    for (progress, ending) in [
        (failing, HoldEndReason::ImageFailed),
        (refused, HoldEndReason::Blocked),
        (progress(0, 0), HoldEndReason::NoNode),
    ] {
        assert_eq!(ended(&web, Some(progress), 200), Some(ending));
    }
}

#[test]
fn a_hold_ends_with_its_time_whatever_the_marks_say() {
    let web = held("app:2", json!({}));
    assert_eq!(ended(&web, None, 399), None);
    assert_eq!(ended(&web, None, 400), Some(HoldEndReason::Deadline));
    let edited = |until: Value| {
        let annotations = json!({ HELD_UNTIL: until });
        held(
            "app:2",
            json!({ "metadata": { "annotations": annotations } }),
        )
    };
    let longest = edited(json!("1970-01-01T00:31:40Z"));
    assert_eq!(ended(&longest, None, 100 + 1799), None);
    assert_eq!(
        ended(&longest, None, 100 + 1800),
        Some(HoldEndReason::Deadline)
    );
    for broken in [json!("tomorrow"), Value::Null] {
        let web = edited(broken);
        assert_eq!(ended(&web, None, 101), Some(HoldEndReason::Deadline));
    }
}

#[test]
fn a_hold_ends_when_nobody_asks_for_it() {
    let web = held("app:2", json!({}));
    let held = web.state.held.unwrap();
    let no_time = SignedDuration::ZERO;
    let after = |mode, seconds: i64| {
        let now = at(100 + seconds);
        end_reason(&web, held, mode, LIMITS, no_time, None, now)
    };
    assert_eq!(after(Mode::Enabled, 5), Some(HoldEndReason::NotAsked));
    assert_eq!(after(Mode::Disabled, 5), Some(HoldEndReason::NotAsked));
    assert_eq!(
        after(Mode::Disabled, 4),
        None,
        "the label may be on its way"
    );
    let resumed = HoldMark {
        paused: false,
        ..held
    };
    let ending = end_reason(&web, resumed, Mode::Hold, LIMITS, no_time, None, at(200));
    assert_eq!(ending, Some(HoldEndReason::ByHand));
}

/// A Deployment as it is held, with other marks. Without a value there is no such annotation.
fn marked(since: Option<&str>, until: Option<&str>) -> Workload {
    let annotations = json!({ HELD_SINCE: since, HELD_UNTIL: until });
    held(
        "app:2",
        json!({ "metadata": { "annotations": annotations } }),
    )
}

#[test]
fn a_mark_of_a_time_that_cannot_be_is_not_ours_in_any_mode() {
    let (ours, soon) = ("1970-01-01T00:03:20Z", "1970-01-01T00:05:00Z");
    let far = "2099-01-01T00:00:00Z";
    for (what, since, until) in [
        ("both far ahead", Some(far), Some("2099-01-01T00:05:00Z")),
        ("begun far ahead", Some(far), Some(soon)),
        (
            "begun an hour ahead",
            Some("1970-01-01T01:03:20Z"),
            Some("1970-01-01T01:08:20Z"),
        ),
        ("begun 61 s ahead", Some("1970-01-01T00:04:21Z"), Some(soon)),
        ("no beginning", None, Some(far)),
        ("a beginning that is no time", Some("tomorrow"), Some(far)),
        ("an end far ahead", Some(ours), Some(far)),
        (
            "an end a second after the limit",
            Some(ours),
            Some("1970-01-01T00:33:21Z"),
        ),
    ] {
        let web = marked(since, until);
        let held = web.state.held.unwrap();
        for mode in [Mode::Disabled, Mode::Enabled, Mode::Hold] {
            let ended = end_reason(
                &web,
                held,
                mode,
                LIMITS,
                SignedDuration::ZERO,
                None,
                at(200),
            );
            assert_eq!(
                ended,
                Some(HoldEndReason::ImpossibleMarks),
                "{what}, {mode}"
            );
        }
    }
    for (what, since, until) in [
        ("ours", ours, soon),
        (
            "a replica's whose clock is a minute ahead",
            "1970-01-01T00:04:20Z",
            "1970-01-01T00:09:20Z",
        ),
    ] {
        let web = marked(Some(since), Some(until));
        assert_eq!(ended(&web, None, 200), None, "{what}");
    }
}

#[test]
fn no_hold_is_seen_for_longer_than_the_limit_whatever_the_clocks_say() {
    let web = marked(Some("1970-01-01T00:01:40Z"), Some("1970-01-01T00:31:40Z"));
    // This clock stands still, or was set back.
    let ended = |mode, seconds| {
        let seen_for = SignedDuration::from_secs(seconds);
        end_reason(
            &web,
            web.state.held.unwrap(),
            mode,
            LIMITS,
            seen_for,
            None,
            at(90),
        )
    };
    assert_eq!(ended(Mode::Hold, 1799), None);
    assert_eq!(ended(Mode::Hold, 1800), Some(HoldEndReason::Deadline));
    assert_eq!(ended(Mode::Enabled, 4), None);
    assert_eq!(ended(Mode::Enabled, 5), Some(HoldEndReason::NotAsked));
}

#[test]
fn the_time_of_a_hold_ends_with_the_first_of_its_three_limits() {
    let max = SignedDuration::from_secs(1800);
    let left = |since: i64, until: Option<i64>, seen_for| {
        let held = HoldMark {
            since: Some(at(since)),
            until: until.map(at),
            paused: true,
        };
        time_left(held, max, SignedDuration::from_secs(seen_for), at(1000)).as_secs()
    };
    assert_eq!(left(900, Some(1200), 50), 200, "until");
    assert_eq!(left(-700, Some(1200), 50), 100, "since and the limit");
    assert_eq!(left(900, Some(1200), 1650), 150, "first seen and the limit");
    assert_eq!(left(900, None, 50), 0);
}

#[test]
fn the_time_of_a_hold_ends_in_every_mode() {
    let web = marked(Some("1970-01-01T00:01:40Z"), Some("1970-01-01T00:01:43Z"));
    for mode in [Mode::Disabled, Mode::Enabled, Mode::Hold] {
        let no_time = SignedDuration::ZERO;
        let held = web.state.held.unwrap();
        let ended = end_reason(&web, held, mode, LIMITS, no_time, None, at(103));
        assert_eq!(ended, Some(HoldEndReason::Deadline), "{mode}");
    }
}

#[test]
fn a_hold_is_overdue_when_its_time_is_over_by_the_grace() {
    let overdue = |since: Option<i64>, until: Option<i64>, now: i64| {
        let mark = HoldMark {
            since: since.map(at),
            until: until.map(at),
            paused: true,
        };
        is_overdue(mark, LIMITS.max, SignedDuration::from_mins(1), at(now))
    };
    assert!(!overdue(Some(100), Some(400), 460));
    assert!(overdue(Some(100), Some(400), 461));
    // Marks that headstart does not set.
    assert!(overdue(None, Some(400), 200));
    assert!(overdue(Some(100), None, 200));
    assert!(overdue(Some(9_000), Some(9_300), 200), "in the future");
    assert!(overdue(Some(100), Some(9_000), 200), "beyond the limit");
    assert!(!overdue(Some(100), Some(1_900), 1_960));
    assert!(overdue(Some(100), Some(1_900), 1_961));
}
