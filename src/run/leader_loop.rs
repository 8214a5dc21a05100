//! Runs the controller while this replica leads.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::driver::Driver;

/// Runs the controller in each term of this replica, once the caches are complete. Returns once stopped.
pub(super) async fn run_controller_while_leading(
    driver: Driver,
    mut leading: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let metrics = driver.metrics.clone();
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = driver.store.wait_until_synced() => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // Fails only with the election, which ends the process.
            led = wait_for(&mut leading, true) => if !led { return },
        }
        metrics.leading(true);
        let term = stop.child_token();
        let work = driver.clone().run(term.clone());
        tokio::pin!(work);
        tokio::select! {
            // Stopped: the controller ends by itself.
            () = &mut work => {}
            // The lease is lost: nothing is written any more.
            _ = wait_for(&mut leading, false) => {
                term.cancel();
                work.await;
            }
        }
        metrics.leading(false);
    }
}

/// Returns whether the value came before the sender was dropped.
async fn wait_for(receiver: &mut watch::Receiver<bool>, value: bool) -> bool {
    receiver.wait_for(|current| *current == value).await.is_ok()
}
