//! The Lease as this replica sees it.

use std::time::Duration;

use crate::hold_gate::HoldGate;
use headstart_core::resource_version::NewestVersion;
use k8s_openapi::api::coordination::v1::Lease;
use thiserror::Error;
use tokio::time::Instant;

/// The API server's data went back in time. The process ends, and its kubelet starts it again: Kubernetes' documentation asks
/// this of all components after a restore of etcd. Each start lists everything, so no cache has to be reset.
#[derive(Clone, Copy, Debug, Error)]
#[error(
    "the resourceVersion of the Lease is smaller than before, so etcd was restored; a new process lists everything anew"
)]
pub(crate) struct Restored;

/// The Lease as it was read last, and the time of its last change by this replica's clock.
pub(super) struct ObservedLease {
    pub(super) lease: Option<Lease>,
    changed: Instant,
    /// The version found by the first look, which may be none.
    first: Option<Option<String>>,
    newest: NewestVersion,
    gate: HoldGate,
    /// True if an answer was older than a previous one.
    pub(super) restored: bool,
}

impl ObservedLease {
    pub(super) fn new(gate: HoldGate) -> Self {
        Self {
            lease: None,
            changed: Instant::now(),
            first: None,
            newest: NewestVersion::default(),
            gate,
            restored: false,
        }
    }

    /// Records the answer to a request of our own.
    pub(super) fn answered(&mut self, lease: Option<Lease>) {
        let version = version(&lease);
        self.restored |= version.is_some_and(|version| self.newest.goes_back(version));
        self.update(lease);
    }

    /// Records a state from the watch.
    pub(super) fn watched(&mut self, lease: Option<Lease>) {
        if let Some(version) = version(&lease) {
            self.newest.watched(version);
        }
        self.update(lease);
    }

    fn update(&mut self, lease: Option<Lease>) {
        self.gate.observe(lease.as_ref(), Instant::now());
        self.first
            .get_or_insert_with(|| version(&lease).map(str::to_owned));
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

    /// Returns whether the lease changed since the first look.
    pub(super) fn has_changed(&self) -> bool {
        let first = self.first.as_ref();
        first.is_some_and(|first| first.as_deref() != version(&self.lease))
    }

    /// Returns the time since its last change, by our own clock.
    pub(super) fn unchanged_for(&self) -> Duration {
        self.changed.elapsed()
    }

    /// Returns the time at which another replica's lease runs out unless it is renewed.
    pub(super) fn expires_at(&self, ours: Duration) -> Instant {
        self.changed + self.duration(ours)
    }

    /// Returns the duration in the lease.
    pub(super) fn duration(&self, ours: Duration) -> Duration {
        let spec = self.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let theirs = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok());
        theirs.map_or(ours, Duration::from_secs)
    }
}

fn version(lease: &Option<Lease>) -> Option<&str> {
    lease.as_ref()?.metadata.resource_version.as_deref()
}
