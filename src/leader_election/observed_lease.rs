//! The Lease as this replica sees it.

use std::time::Duration;

use crate::hold_gate::HoldGate;
use headstart_core::resource_version::NewestVersion;
use k8s_openapi::api::coordination::v1::Lease;
use thiserror::Error;
use tokio::time::Instant;

/// The API server's data went back in time. The process ends and is started again, as Kubernetes' documentation wants it of all
/// components: each start lists everything, and nothing else has to know how to forget what it has seen.
#[derive(Clone, Copy, Debug, Error)]
#[error(
    "the resourceVersion of the Lease is smaller than before, so etcd was restored; a new process lists everything anew"
)]
pub(crate) struct Restored;

/// What was last seen of the lease, and when by our own clock it last changed.
pub(super) struct ObservedLease {
    pub(super) lease: Option<Lease>,
    changed: Instant,
    newest: NewestVersion,
    gate: HoldGate,
    /// An answer was older than one before.
    pub(super) restored: bool,
}

impl ObservedLease {
    pub(super) fn new(gate: HoldGate) -> Self {
        Self {
            lease: None,
            changed: Instant::now(),
            newest: NewestVersion::default(),
            gate,
            restored: false,
        }
    }

    /// Takes the answer to a request of our own.
    pub(super) fn answered(&mut self, lease: Option<Lease>) {
        let version = version(&lease);
        self.restored |= version.is_some_and(|version| self.newest.goes_back(version));
        self.update(lease);
    }

    /// Takes what the watch brings.
    pub(super) fn watched(&mut self, lease: Option<Lease>) {
        if let Some(version) = version(&lease) {
            self.newest.watched(version);
        }
        self.update(lease);
    }

    fn update(&mut self, lease: Option<Lease>) {
        self.gate.observe(lease.as_ref(), Instant::now());
        if version(&self.lease) != version(&lease) {
            self.lease = lease;
            self.changed = Instant::now();
        }
    }

    pub(super) fn holder(&self) -> Option<&str> {
        let holder = self
            .lease
            .as_ref()?
            .spec
            .as_ref()?
            .holder_identity
            .as_deref()?;
        (!holder.is_empty()).then_some(holder)
    }

    /// When someone else's lease runs out, if nobody renews it.
    pub(super) fn expires_at(&self, ours: Duration) -> Instant {
        let spec = self.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let theirs = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok());
        self.changed + theirs.map_or(ours, Duration::from_secs)
    }
}

fn version(lease: &Option<Lease>) -> Option<&str> {
    lease.as_ref()?.metadata.resource_version.as_deref()
}
