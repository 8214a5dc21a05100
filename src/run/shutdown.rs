//! The causes that end the process, and the order in which its parts end.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::control::Control;
use super::process::Signals;
use super::servers::Servers;
use crate::hold_gate::HoldGate;
use crate::supervisor::FirstEnd;

/// The tasks of a running replica, and the handles that end them.
pub(super) struct Running {
    pub(super) control: Control,
    pub(super) servers: Servers,
    pub(super) event_writer: JoinHandle<()>,
    /// The first essential task that ends.
    pub(super) first_end: FirstEnd,
    /// Cancelled when the process is told to stop.
    pub(super) stop: CancellationToken,
    /// Closed at once: this replica may be the last, and would not resume a new hold.
    pub(super) gate: HoldGate,
    /// The duration for which reviews are still served after a signal.
    pub(super) drain: Duration,
}

impl Running {
    /// Runs until a signal comes or an essential task ends, then stops everything in order. A second signal ends the stop at
    /// once.
    pub(super) async fn until_stopped(mut self, signals: &mut Signals) -> Result<()> {
        let outcome = tokio::select! {
            () = signals.next() => Ok(()),
            error = self.first_end.wait() => Err(error.into()),
        };
        info!("stopping");
        tokio::select! {
            () = self.stop_in_order(outcome.is_ok()) => {}
            () = signals.next() => warn!("second signal: stopping now"),
        }
        outcome
    }

    /// Becomes not ready but still serves, because the API server takes a while to notice. Meanwhile the controller ends under
    /// the lease, and the lease is given up at once for a standby. The last replica resumes every held rollout.
    pub(super) async fn stop_in_order(self, drained: bool) {
        let Control {
            controller,
            election,
            controller_done,
            last_replica,
        } = self.control;
        self.gate.stop();
        self.stop.cancel();
        end_of(controller).await;
        controller_done.cancel();
        end_of(election).await;
        if drained {
            let drain = tokio::time::sleep(self.drain);
            match &last_replica {
                Some(last_replica) => last_replica.resume_if_last(drain).await,
                None => drain.await,
            }
        }
        // It has the last event recorder, which keeps the writer running.
        drop(last_replica);
        end_of(self.event_writer).await;
        self.servers.closing.cancel();
        end_of(self.servers.webhook).await;
    }
}

/// Waits until the task has ended.
async fn end_of(task: JoinHandle<()>) {
    let _ = task.await;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::supervisor::Supervisor;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    /// A task that ends with the token, and then says so.
    fn task(log: &Log, name: &'static str, end: &CancellationToken) -> JoinHandle<()> {
        let (log, end) = (log.clone(), end.clone());
        tokio::spawn(async move {
            end.cancelled().await;
            log.lock().unwrap().push(name);
        })
    }

    #[tokio::test]
    async fn an_essential_task_that_ends_stops_the_others_in_order() {
        let log = Log::default();
        let [controller_done, stop, closing] = [(); 3].map(|()| CancellationToken::new());
        let (supervisor, first_end) = Supervisor::new();
        let running = Running {
            control: Control {
                controller: supervisor.spawn("controller", async {}),
                election: task(&log, "election", &controller_done),
                controller_done,
                last_replica: None,
            },
            servers: Servers {
                webhook: task(&log, "webhook", &closing),
                closing,
            },
            event_writer: task(&log, "events", &stop),
            first_end,
            stop,
            gate: HoldGate::default(),
            // Reviews are served on after a signal only.
            drain: Duration::from_secs(3600),
        };
        let mut signals = Signals::install().unwrap();
        let error = running.until_stopped(&mut signals).await.unwrap_err();
        assert_eq!(error.to_string(), "the controller ended");
        let mut log = log.lock().unwrap().clone();
        assert_eq!(log.pop(), Some("webhook"), "it serves until the end");
        log.sort_unstable();
        assert_eq!(log, ["election", "events"]);
    }
}
