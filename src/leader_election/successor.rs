//! The Lease after this replica has given it up: whether another replica leads on.

use std::time::Duration;

use headstart_core::hold::{LeaseView, Successor, successor};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::LeaderElector;
use super::observed_lease::ObservedLease;

/// How often the Lease is read.
const POLL: Duration = Duration::from_millis(250);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// When a replica that cannot find out counts as the last. What it does then does no harm where there is another.
const LIMIT: Duration = Duration::from_secs(10);

impl LeaderElector {
    /// Waits until another replica leads, and returns false, or until it is certain that none does. Then it takes the Lease, so
    /// that of two replicas that stop one is the last, and returns true.
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
                                // Another replica was faster, and the next look shows it.
                                Ok(Ok(false)) => {}
                                // A namespace that is being deleted takes no Lease.
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

    /// Gives the Lease up again.
    pub(crate) async fn give_up(&self) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        self.release(&api).await;
    }
}
