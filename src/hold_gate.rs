//! The gate for holds: the webhook holds a rollout only while a leader is known that would resume it.
//!
//! The election observes the Lease and updates the gate. The webhook reads the gate for each write that would be held. A read
//! waits at most for a copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use headstart_core::api::well_known::RESUMES_ANNOTATION;
use headstart_core::hold::{GateClosed, GateView, ResumeHealth, closed_gate};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::sync::watch;
use tokio::time::Instant;

/// The gate of this replica. It is closed until a leader was seen to renew its Lease.
#[derive(Clone, Debug, Default)]
pub struct HoldGate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Written by the election only.
    lease: ArcSwap<SeenLease>,
    stopping: AtomicBool,
    /// True while the webhook configuration is deleted: headstart is being removed.
    unregistered: watch::Sender<bool>,
}

/// The content of the Lease, as last seen.
#[derive(Debug, Default)]
struct SeenLease {
    /// `None` before the first sight.
    record: Option<Record>,
    /// The time by our clock at which the record last changed, if it has a holder. The first sight does not count: the holder
    /// may have stopped long ago.
    renewed: Option<Instant>,
    duration: Duration,
    resumes: ResumeHealth,
}

/// The part of a Lease that its holder changes with each renewal.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    holder: Option<String>,
    renew_time: Option<MicroTime>,
}

impl HoldGate {
    /// Records the Lease as it was read or written; `None` if it does not exist.
    pub(crate) fn observe(&self, lease: Option<&Lease>, now: Instant) {
        let before = self.0.lease.load();
        let no_spec = LeaseSpec::default();
        let spec = lease.and_then(|lease| lease.spec.as_ref());
        let spec = spec.unwrap_or(&no_spec);
        let holder = spec.holder_identity.clone();
        let record = Record {
            holder: holder.filter(|holder| !holder.is_empty()),
            renew_time: spec.renew_time.clone(),
        };
        let renewed = match &before.record {
            _ if record.holder.is_none() => None,
            None => None,
            Some(known) if *known == record => before.renewed,
            Some(_) => Some(now),
        };
        let annotations = lease.and_then(|lease| lease.metadata.annotations.as_ref());
        let resumes = annotations.and_then(|all| all.get(RESUMES_ANNOTATION));
        let seconds = spec.lease_duration_seconds.unwrap_or_default();
        self.0.lease.store(Arc::new(SeenLease {
            record: Some(record),
            renewed,
            duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
            resumes: ResumeHealth::from_annotation(resumes.map(String::as_str)),
        }));
    }

    /// Closes the gate for good, because the process stops.
    pub(crate) fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Closes the gate while the webhook configuration is deleted.
    pub(crate) fn set_unregistered(&self, unregistered: bool) {
        let replace = |known: &mut bool| std::mem::replace(known, unregistered) != unregistered;
        self.0.unregistered.send_if_modified(replace);
    }

    /// Returns a receiver that is true while the webhook configuration is deleted, which ends all holds.
    pub(crate) fn unregistered(&self) -> watch::Receiver<bool> {
        self.0.unregistered.subscribe()
    }

    /// Returns the reason for which nothing may be held now. `permitted` is true if the self-test passed or is not required.
    pub(crate) fn closed(&self, permitted: bool, now: Instant) -> Option<GateClosed> {
        let lease = self.0.lease.load();
        closed_gate(GateView {
            stopping: self.0.stopping.load(Ordering::Relaxed),
            unregistered: *self.0.unregistered.borrow(),
            permitted,
            since_renewal: lease.renewed.map(|at| now.saturating_duration_since(at)),
            lease_duration: lease.duration,
            resumes: lease.resumes,
        })
    }

    /// Returns a gate that has just seen a renewal, for tests and benches.
    pub fn just_renewed() -> Self {
        let gate = Self::default();
        let lease = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some("leader".to_owned()),
                lease_duration_seconds: Some(60),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        gate.observe(None, Instant::now());
        gate.observe(Some(&lease), Instant::now());
        gate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    const SECOND: Duration = Duration::from_secs(1);

    /// A Lease of 6 s of this holder, renewed then.
    fn lease(holder: &str, renewed: i64) -> Lease {
        let mut lease = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(6),
                renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        lease.metadata.resource_version = Some(renewed.to_string());
        lease
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_is_open_from_a_renewal_until_the_renew_deadline() {
        let gate = HoldGate::default();
        let start = Instant::now();
        let closed = |after: Duration| gate.closed(true, start + after);
        assert_eq!(closed(Duration::ZERO), Some(GateClosed::NoLeader));
        gate.observe(Some(&lease("a", 1)), start);
        let first = closed(Duration::ZERO);
        assert_eq!(first, Some(GateClosed::NoLeader), "it may be old");
        gate.observe(Some(&lease("a", 2)), start + SECOND);
        assert_eq!(closed(SECOND * 49 / 10), None);
        assert_eq!(closed(5 * SECOND), Some(GateClosed::NoLeader));
        // A change by another client is no renewal.
        let mut labelled = lease("a", 2);
        labelled.metadata.resource_version = Some("9".to_owned());
        gate.observe(Some(&labelled), start + 5 * SECOND);
        assert_eq!(closed(5 * SECOND), Some(GateClosed::NoLeader));
        gate.observe(Some(&lease("b", 10)), start + 6 * SECOND);
        assert_eq!(closed(6 * SECOND), None, "another leads");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_released_or_deleted_closes_the_gate_at_once() {
        let now = Instant::now();
        for gone in [Some(lease("", 2)), None] {
            let gate = HoldGate::just_renewed();
            assert_eq!(gate.closed(true, now), None);
            gate.observe(gone.as_ref(), now);
            assert_eq!(gate.closed(true, now), Some(GateClosed::NoLeader));
            gate.observe(Some(&lease("b", 3)), now);
            assert_eq!(gate.closed(true, now), None, "taken");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_is_closed_where_the_leader_says_that_resumes_fail() {
        let now = Instant::now();
        let gate = HoldGate::just_renewed();
        let mut failing = lease("leader", 3);
        let says = |value: &str| Some([(RESUMES_ANNOTATION.to_owned(), value.to_owned())].into());
        failing.metadata.annotations = says("failing");
        gate.observe(Some(&failing), now);
        assert_eq!(gate.closed(true, now), Some(GateClosed::ResumesFail));
        failing.metadata.annotations = says("ok");
        gate.observe(Some(&failing), now);
        assert_eq!(gate.closed(true, now), None);
        assert_eq!(
            gate.closed(false, now),
            Some(GateClosed::PoliciesNotEnforced)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_closes_with_the_process_and_with_the_configuration() {
        let now = Instant::now();
        let gate = HoldGate::just_renewed();
        gate.set_unregistered(true);
        assert_eq!(gate.closed(true, now), Some(GateClosed::Unregistered));
        gate.set_unregistered(false);
        assert_eq!(gate.closed(true, now), None);
        gate.clone().stop();
        assert_eq!(gate.closed(true, now), Some(GateClosed::Stopping));
    }
}
