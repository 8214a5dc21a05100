//! Tests of the gate for holds.

use std::time::Duration;

use super::*;
use crate::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn open() -> GateView {
    GateView {
        stopping: false,
        unregistered: false,
        permitted: true,
        since_renewal: Some(SECOND),
        lease_duration: 6 * SECOND,
        resumes: ResumeHealth::Ok,
    }
}

#[test]
fn each_fault_closes_the_gate_with_its_own_reason() {
    assert_eq!(closed_gate(open()), None);
    let no_leader = Some(GateClosed::NoLeader);
    for (view, reason) in [
        (
            GateView {
                stopping: true,
                ..open()
            },
            Some(GateClosed::Stopping),
        ),
        (
            GateView {
                unregistered: true,
                ..open()
            },
            Some(GateClosed::Unregistered),
        ),
        (
            GateView {
                permitted: false,
                ..open()
            },
            Some(GateClosed::PoliciesNotEnforced),
        ),
        (
            GateView {
                since_renewal: None,
                ..open()
            },
            no_leader,
        ),
        (
            GateView {
                resumes: ResumeHealth::Failing,
                ..open()
            },
            Some(GateClosed::ResumesFail),
        ),
    ] {
        assert_eq!(closed_gate(view), reason, "{view:?}");
    }
}

#[test]
fn the_gate_closes_when_a_leader_must_have_stopped_to_lead() {
    let after = |since: Duration, duration: Duration| {
        closed_gate(GateView {
            since_renewal: Some(since),
            lease_duration: duration,
            ..open()
        })
    };
    assert_eq!(after(SECOND * 39 / 10, 6 * SECOND), None);
    assert_eq!(after(4 * SECOND, 6 * SECOND), Some(GateClosed::NoLeader));
    let years = Duration::from_secs(1 << 31);
    assert_eq!(after(39 * SECOND, years), None);
    assert_eq!(after(40 * SECOND, years), Some(GateClosed::NoLeader));
}

#[test]
fn a_warning_is_not_cut_and_says_that_the_rollout_goes_on() {
    for reason in GateClosed::ALL {
        let warning = reason.warning();
        assert!(warning.chars().count() <= 120, "{warning}");
        let begins = "headstart: not held, the rollout goes on: ";
        assert!(warning.starts_with(begins), "{warning}");
    }
    let position = |(index, reason): (usize, GateClosed)| reason as usize == index;
    assert!(GateClosed::ALL.into_iter().enumerate().all(position));
}

#[test]
fn resumes_fail_when_a_hold_is_over_for_30_s_and_none_was_resumed_since() {
    let start = Instant::default();
    let at = |seconds: u32| start + seconds * SECOND;
    let judge = |over: &[u32], success: Option<u32>, now: u32| {
        let over = over.iter().map(|seconds| at(*seconds));
        ResumeHealth::judge(over, success.map(at), at(now))
    };
    assert_eq!(judge(&[], None, 1000), ResumeHealth::Ok);
    assert_eq!(judge(&[100], None, 129), ResumeHealth::Ok);
    assert_eq!(judge(&[100], None, 130), ResumeHealth::Failing);
    assert_eq!(judge(&[100], Some(99), 130), ResumeHealth::Failing);
    assert_eq!(judge(&[100], Some(101), 1000), ResumeHealth::Ok, "others");
    let both = judge(&[100, 300], Some(101), 330);
    assert_eq!(both, ResumeHealth::Failing, "none since the younger");
}

#[test]
fn resume_health_is_read_as_it_is_written() {
    for health in [ResumeHealth::Ok, ResumeHealth::Failing] {
        let read = ResumeHealth::from_annotation(Some(health.as_str()));
        assert_eq!(read, health);
    }
    assert_eq!(ResumeHealth::from_annotation(None), ResumeHealth::Ok);
    let unknown = ResumeHealth::from_annotation(Some("perhaps"));
    assert_eq!(unknown, ResumeHealth::Failing);
}

#[test]
fn a_closed_gate_holds_nothing_and_keeps_nothing_else_from_happening() {
    let closed = Some(GateClosed::NoLeader);
    let hold = HoldDecision::Hold {
        since: Timestamp::UNIX_EPOCH,
        until: Timestamp::UNIX_EPOCH,
    };
    assert_eq!(hold.with_gate(false, None), hold);
    for was_held in [false, true] {
        let reason = GateClosed::NoLeader;
        let not_held = HoldDecision::NotHeld { reason, was_held };
        assert_eq!(hold.with_gate(was_held, closed), not_held);
        for other in [HoldDecision::Release, HoldDecision::Unchanged] {
            assert_eq!(other.with_gate(was_held, closed), other);
        }
    }
}
