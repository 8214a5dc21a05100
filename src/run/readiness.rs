//! The readiness of this replica for reviews.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::server::Readiness;
use crate::watch::SharedStore;

/// Sets the replica ready when the caches are complete, connections are accepted and the API server trusts our certificate,
/// until it stops.
pub(super) async fn update_readiness(
    readiness: Arc<Readiness>,
    store: Arc<SharedStore>,
    accepts: oneshot::Receiver<()>,
    mut registered: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let follow = async {
        store.wait_until_synced().await;
        if accepts.await.is_err() {
            pending::<Infallible>().await;
        }
        loop {
            readiness.set(*registered.borrow_and_update());
            if registered.changed().await.is_err() {
                pending::<Infallible>().await;
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = stop.cancelled() => {}
    }
    readiness.set(false);
}
