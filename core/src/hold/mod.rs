//! Decides whether a rollout waits for its images, and what ends the wait.
//!
//! A hold is written into the Deployment itself: `spec.paused`, a label by which any leader finds it, and its begin and end. No
//! other state is kept, so none can be lost.

mod admission;
mod end_reason;
mod gate;
mod pause;
mod resume;
mod state;
mod succession;
#[cfg(test)]
mod tests;

pub use admission::{HoldDecision, HoldLimits, ImagePresence, decide};
pub use end_reason::{HoldEndReason, MODE_GRACE, Progress, end_reason, is_overdue, time_left};
pub use gate::{GateClosed, GateView, RENEW_DEADLINE, RESUME_GRACE, ResumeHealth, closed_gate};
pub use pause::{
    LAST_APPLIED, OwnedFields, PAUSER_ANNOTATIONS, is_paused_by_user, manifest_pauses,
};
pub use resume::{ResumeOutcome, ResumePlan, plan_resume};
pub use state::{HoldAction, HoldInput, HoldState, Removal, SETTLE_TIMEOUT, next_state, removal};
pub use succession::{LeaseView, SUCCESSOR_TIMEOUT, Successor, successor};
