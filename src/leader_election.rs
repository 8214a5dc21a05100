//! Leader election: one replica writes, the others stand by.
//!
//! The algorithm is client-go's (`tools/leaderelection`):
//!
//! - A Lease is taken or renewed by an update with the `resourceVersion` that was read, so of two candidates one wins.
//! - A candidate measures another's lease by its own clock, from the last renewal that it saw, so clocks need not agree.
//! - A leader that could not renew within the renew deadline stops. The deadline is shorter than the lease, so no other
//!   replica can have started.
//!
//! kube-lease-manager is not used, for these reasons. A standby removes an expired holder by a patch without a version, which
//! can hit the next holder's fresh lease. A leader whose renewals fail still believes that it leads. It compares other
//! machines' clocks with its own. A standby sleeps through a clean release.

mod controller_report;
mod observed_lease;
mod successor;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::clock::Clock;
use crate::fence::Fence;
use crate::heartbeat::{CONTROLLER, Heartbeats, may_renew};
use crate::hold_gate::HoldGate;
use crate::watch_stream::{Spread, watch_stream};
use futures::StreamExt;
use headstart_core::hold::RENEW_DEADLINE;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub(crate) use controller_report::ControllerReport;
use observed_lease::{ObservedLease, Restored};

/// The retry period as a fraction of the lease's duration: with [`RENEW_DEADLINE`], client-go's proportions (15 s, 10 s, 2 s).
const RETRY_PERIOD: (u32, u32) = (2, 15);

/// Takes part in the election by one lease.
#[derive(Clone)]
pub(crate) struct LeaderElector {
    /// Speaks to the API server.
    pub client: Client,
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// The name of this replica, unique among the replicas.
    pub identity: String,
    /// The duration for which a lease is valid after its last renewal.
    pub duration: Duration,
    /// Tells the time that the Lease says it was renewed at. No decision reads it.
    pub clock: Clock,
    /// Closed when the lease runs out, so that this replica writes nothing after it.
    pub fence: Fence,
    /// The loops of this process: a leader whose controller hangs does not renew.
    pub heartbeats: Heartbeats,
    /// Written into the Lease with each renewal.
    pub report: ControllerReport,
    /// Gets each observed state of the Lease.
    pub gate: HoldGate,
}

impl LeaderElector {
    /// Takes part until cancelled. `leading` is true while this replica leads. Once cancelled it goes on renewing until
    /// `finished` is cancelled, so that the work can end under the lease, then releases it.
    ///
    /// # Errors
    /// When the API server's data went back in time. Every cache of this process is then wrong, and its watches are silent.
    pub(crate) async fn run(
        self,
        leading: watch::Sender<bool>,
        stop: CancellationToken,
        finished: CancellationToken,
    ) -> Result<(), Restored> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let retry = self.duration * RETRY_PERIOD.0 / RETRY_PERIOD.1;
        let deadline = self.duration * RENEW_DEADLINE.0 / RENEW_DEADLINE.1;
        let mut observed = ObservedLease::new(self.gate.clone());
        let watch = || watch_object(api.clone(), &self.name);
        let spread = Spread::of(&self.identity, "lease");
        let mut changes = std::pin::pin!(watch_stream(watch, spread));
        let heartbeat = self.heartbeats.begin("leader election");
        let mut renewed = Instant::now();
        let mut leading_since = None;
        let mut next = Instant::now();
        loop {
            heartbeat.beat();
            let leads = *leading.borrow();
            tokio::select! {
                biased;
                () = finished.cancelled() => break,
                // Nothing was begun under the lease, so nothing has to end.
                () = stop.cancelled(), if !leads => break,
                // A release, or a takeover.
                Some(change) = changes.next() => {
                    match change {
                        Ok(lease) => observed.watched(lease),
                        Err(error) => debug!(%error, "cannot watch the lease"),
                    }
                    if leads || observed.holder().is_some_and(|holder| holder != self.identity) {
                        continue;
                    }
                }
                () = tokio::time::sleep_until(next) => {}
                // The lease is about to run out, and an attempt may hang for longer than that.
                () = tokio::time::sleep_until(renewed + deadline), if leads => {
                    warn!("the lease could not be renewed in time; another replica will lead");
                    self.resign(&leading);
                    continue;
                }
            }
            next = Instant::now() + retry;
            let theirs = observed
                .holder()
                .is_some_and(|holder| holder != self.identity);
            if theirs && !leads && Instant::now() < observed.expires_at(self.duration) {
                continue;
            }
            // The lease counts from the request, because the answer may be late.
            let asked = Instant::now();
            let since_turn = self.heartbeats.since_turn(CONTROLLER, asked);
            if !may_renew(since_turn, self.duration) {
                warn!(
                    ?since_turn,
                    "the controller hangs; the lease is not renewed"
                );
                next = asked + retry / 4;
                continue;
            }
            let budget = if leads {
                (renewed + deadline).saturating_duration_since(asked)
            } else {
                deadline
            };
            leading_since = leading_since.filter(|_| leads);
            let attempt = self.try_acquire_or_renew(&api, &mut observed, leading_since);
            let attempt = timeout(budget, attempt);
            match heartbeat.during(attempt).await {
                Ok(_) if observed.restored => {
                    self.resign(&leading);
                    return Err(Restored);
                }
                Ok(Ok(true)) => {
                    renewed = asked;
                    self.fence.extend(asked + self.duration);
                    if !leads && asked.elapsed() < deadline {
                        info!(identity = %self.identity, "leading");
                        leading_since = Some(asked);
                        leading.send_replace(true);
                    }
                }
                Ok(Ok(false)) if leads => {
                    warn!(
                        holder = observed.holder(),
                        "another replica holds the lease"
                    );
                    self.resign(&leading);
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => warn!(%error, "cannot take or renew the lease"),
                Err(_) => warn!("taking or renewing the lease timed out"),
            }
        }
        let led = self.resign(&leading);
        if led {
            heartbeat.during(self.release(&api)).await;
        }
        Ok(())
    }

    /// Records that this replica does not lead. Returns whether it did.
    fn resign(&self, leading: &watch::Sender<bool>) -> bool {
        self.fence.close();
        leading.send_replace(false)
    }

    /// Takes or renews the lease if it is free, expired or ours. Returns whether this replica holds it.
    async fn try_acquire_or_renew(
        &self,
        api: &Api<Lease>,
        observed: &mut ObservedLease,
        leading_since: Option<Instant>,
    ) -> kube::Result<bool> {
        observed.answered(api.get_opt(&self.name).await?);
        let Some(current) = &observed.lease else {
            let lease = self.lease(None, 0, leading_since);
            return match api.create(&PostParams::default(), &lease).await {
                Ok(lease) => {
                    observed.answered(Some(lease));
                    Ok(true)
                }
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
                Err(error) => Err(error),
            };
        };
        let ours = observed.holder() == Some(self.identity.as_str());
        if observed.holder().is_some()
            && !ours
            && Instant::now() < observed.expires_at(self.duration)
        {
            return Ok(false);
        }
        let spec = current.spec.as_ref();
        let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let transitions = transitions + i32::from(!ours);
        let mut lease = self.lease(Some(&current.metadata), transitions, leading_since);
        if let (true, Some(spec)) = (ours, lease.spec.as_mut()) {
            spec.acquire_time = current
                .spec
                .as_ref()
                .and_then(|spec| spec.acquire_time.clone());
        }
        match api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
        {
            Ok(lease) => {
                observed.answered(Some(lease));
                Ok(true)
            }
            // Another replica was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn lease(
        &self,
        metadata: Option<&ObjectMeta>,
        transitions: i32,
        leading_since: Option<Instant>,
    ) -> Lease {
        let now = MicroTime(self.clock.timestamp());
        let fresh = || ObjectMeta {
            name: Some(self.name.clone()),
            ..ObjectMeta::default()
        };
        let mut metadata = metadata.cloned().unwrap_or_else(fresh);
        let annotations = metadata.annotations.get_or_insert_default();
        self.report.annotate(annotations, leading_since);
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(
                    i32::try_from(self.duration.as_secs().max(1)).unwrap_or(i32::MAX),
                ),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the lease up, so that a standby takes it at once. Best effort: it runs out anyway.
    async fn release(&self, api: &Api<Lease>) {
        let attempt = async {
            let Some(mut lease) = api.get_opt(&self.name).await? else {
                return Ok(());
            };
            match lease.spec.as_mut() {
                Some(spec) if spec.holder_identity.as_ref() == Some(&self.identity) => {
                    spec.holder_identity = None
                }
                _ => return Ok(()),
            }
            api.replace(&self.name, &PostParams::default(), &lease)
                .await
                .map(|_| ())
        };
        match timeout(self.duration, attempt).await {
            Ok(Ok(())) => info!("released the lease"),
            Ok(Err(error)) => warn!(%error, "cannot release the lease; it runs out"),
            Err(_) => warn!("releasing the lease timed out; it runs out"),
        }
    }
}
