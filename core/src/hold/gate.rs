//! Decides whether the webhook may hold a rollout: only while a leader lives that resumes it.

use std::time::Duration;

use crate::time::Instant;

/// The time for which a hold may be over and not resumed before resumes count as failing: three attempts, with their pauses.
pub const RESUME_GRACE: Duration = Duration::from_secs(30);
/// The longest lease that is believed. The policy headstart-writes-only-its-lease refuses a longer one.
const LONGEST_LEASE: Duration = Duration::from_secs(60);
/// The part of a lease after which a leader that could not renew it stops to lead.
pub const RENEW_DEADLINE: (u32, u32) = (2, 3);

/// Says whether the leader can resume rollouts. The leader writes it into its Lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResumeHealth {
    /// As far as is known, it can.
    #[default]
    Ok,
    /// It cannot.
    Failing,
}

impl ResumeHealth {
    /// Returns the value of the annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
        }
    }

    /// Reads the annotation. A leader of a version without it can resume; an unknown value counts as failing.
    pub fn from_annotation(value: Option<&str>) -> Self {
        match value {
            None | Some("ok") => Self::Ok,
            Some(_) => Self::Failing,
        }
    }

    /// Judges by the holds that are over and not resumed, each with the time since which it is over, and by the last resume
    /// that succeeded. Resumes fail if one hold has been over for [`RESUME_GRACE`], and no resume has succeeded since it is. So
    /// one Deployment that cannot be resumed closes the gate to no other while those are resumed.
    pub fn judge(
        over: impl IntoIterator<Item = Instant>,
        last_success: Option<Instant>,
        now: Instant,
    ) -> Self {
        let is_stuck = |since: Instant| {
            now.duration_since(since) >= RESUME_GRACE
                && last_success.is_none_or(|success| success < since)
        };
        if over.into_iter().any(is_stuck) {
            Self::Failing
        } else {
            Self::Ok
        }
    }
}

/// The knowledge of a replica when it admits a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateView {
    /// The process is told to stop.
    pub stopping: bool,
    /// The webhook configuration is deleted.
    pub unregistered: bool,
    /// The self-test passed, or is not required.
    pub permitted: bool,
    /// The time, by this replica's clock, since the holder of the Lease was seen to renew it. `None` if it was not seen, or
    /// there is no holder.
    pub since_renewal: Option<Duration>,
    /// The duration that the Lease says.
    pub lease_duration: Duration,
    /// The health of resumes, as the Lease says.
    pub resumes: ResumeHealth,
}

/// The reason why nothing is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateClosed {
    /// The replica stops. It may be the last.
    Stopping,
    /// headstart is being removed.
    Unregistered,
    /// The self-test has not shown that the policies are enforced.
    PoliciesNotEnforced,
    /// No replica leads, as far as this one knows.
    NoLeader,
    /// The leader cannot resume rollouts.
    ResumesFail,
}

impl GateClosed {
    /// All reasons, in their order.
    pub const ALL: [Self; 5] = [
        Self::Stopping,
        Self::Unregistered,
        Self::PoliciesNotEnforced,
        Self::NoLeader,
        Self::ResumesFail,
    ];

    /// One word, for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Stopping => "Stopping",
            Self::Unregistered => "Unregistered",
            Self::PoliciesNotEnforced => "PoliciesNotEnforced",
            Self::NoLeader => "NoLeader",
            Self::ResumesFail => "ResumesFail",
        }
    }

    /// Returns the warning for the client that writes. The API server cuts a warning after 120 characters.
    pub fn warning(self) -> &'static str {
        match self {
            Self::Stopping => {
                "headstart: not held, the rollout goes on: this replica of headstart is stopping"
            }
            Self::Unregistered => {
                "headstart: not held, the rollout goes on: headstart's webhook configuration is deleted"
            }
            Self::PoliciesNotEnforced => {
                "headstart: not held, the rollout goes on: headstart's policies are not known to be enforced"
            }
            Self::NoLeader => {
                "headstart: not held, the rollout goes on: no replica of headstart leads that could resume it"
            }
            Self::ResumesFail => {
                "headstart: not held, the rollout goes on: headstart's leader cannot resume rollouts at the moment"
            }
        }
    }
}

/// Returns why nothing may be held; `None` if a rollout may be held.
///
/// A leader that could not renew its Lease for two thirds of the duration stops to lead, so the gate closes then already, and
/// not only when the Lease has expired.
pub fn closed_gate(view: GateView) -> Option<GateClosed> {
    let (part, whole) = RENEW_DEADLINE;
    let led_for = view.lease_duration.min(LONGEST_LEASE) * part / whole;
    let is_led = view.since_renewal.is_some_and(|since| since < led_for);
    if view.stopping {
        Some(GateClosed::Stopping)
    } else if view.unregistered {
        Some(GateClosed::Unregistered)
    } else if !view.permitted {
        Some(GateClosed::PoliciesNotEnforced)
    } else if !is_led {
        Some(GateClosed::NoLeader)
    } else if view.resumes == ResumeHealth::Failing {
        Some(GateClosed::ResumesFail)
    } else {
        None
    }
}
