//! Finds out whether another replica leads after this one has given up the Lease.

use std::time::Duration;

use headstart_core::hold::{LeaseView, Successor, successor};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::LeaderElector;
use super::observed_lease::ObservedLease;

/// The interval at which the Lease is read.
const POLL: Duration = Duration::from_millis(250);
/// The limit for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The time after which a replica without an answer counts as the last one. Its actions do no harm if there is another.
const LIMIT: Duration = Duration::from_secs(10);

impl LeaderElector {
    /// Waits until another replica leads, and returns false, or until certainly none does. Then it takes the Lease, so that of
    /// two stopping replicas one is the last, and returns true.
    pub(crate) async fn take_if_last(&self) -> bool {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut observed = ObservedLease::new(self.gate.clone());
        let begun = Instant::now();
        while begun.elapsed() < LIMIT.max(self.duration) {
            match timeout(REQUEST_TIMEOUT, api.get_opt(&self.name)).await {
                Ok(Ok(lease)) => {
                    observed.answered(lease);
                    match self.successor(&observed) {
                        Successor::Other => return false,
                        Successor::Unknown => {}
                        Successor::None => {
                            let attempt = self.try_acquire_or_renew(&api, &mut observed, None);
                            match timeout(REQUEST_TIMEOUT, attempt).await {
                                Ok(Ok(true)) => return true,
                                // Another replica was faster, as the next read shows.
                                Ok(Ok(false)) => {}
                                // A namespace that is being deleted accepts no Lease.
                                Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                                    info!(%status, "no replica can take the lease any more");
                                    return true;
                                }
                                Ok(Err(error)) => warn!(%error, "cannot take the lease back"),
                                Err(_) => warn!("taking the lease back timed out"),
                            }
                        }
                    }
                }
                Ok(Err(error)) => warn!(%error, "cannot read the lease"),
                Err(_) => warn!("reading the lease timed out"),
            }
            sleep(POLL).await;
        }
        true
    }

    fn successor(&self, observed: &ObservedLease) -> Successor {
        let holder = observed.holder();
        successor(LeaseView {
            is_theirs: holder.is_some_and(|holder| holder != self.identity),
            has_changed: observed.has_changed(),
            unchanged_for: observed.unchanged_for(),
            duration: observed.duration(self.duration),
        })
    }

    /// Gives up the Lease that [`Self::take_if_last`] took.
    pub(crate) async fn give_up(&self) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        self.release(&api).await;
    }
}
