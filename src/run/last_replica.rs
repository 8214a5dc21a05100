//! The last replica resumes every held rollout before it exits, because no other replica would.

use std::sync::Arc;
use std::time::Duration;

use headstart_core::controller::command::ResumeOutcome;
use headstart_core::event::EventReason;
use headstart_core::workload::DeploymentKey;
use kube::Client;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::event_recorder::EventRecorder;
use crate::leader_election::LeaderElector;
use crate::release::{Held, ListError, list_held, release_all};
use crate::watch::SharedStore;

/// The limit for resuming. With the rest of the shutdown it is less than the grace period of the manifests, and enough for
/// about a thousand rollouts.
const LIMIT: Duration = Duration::from_secs(15);
/// The pause before a retry for rollouts that could not be resumed.
const PAUSE: Duration = Duration::from_secs(1);
/// The note of the event for the user.
const NOTE: &str =
    "The rollout goes on: headstart stops, and no other replica is left to resume it";

/// The handles with which a replica finds out that it is the last, and resumes.
pub(super) struct LastReplica {
    pub(super) elector: LeaderElector,
    pub(super) client: Client,
    /// The namespaces that are watched; none for all.
    pub(super) namespaces: Vec<String>,
    pub(super) store: Arc<SharedStore>,
    pub(super) recorder: EventRecorder,
}

impl LastReplica {
    /// Resumes everything if no other replica leads. `drained` ends when no more reviews are served. Then it resumes again,
    /// because a write that was admitted before the gate closed may be stored late.
    pub(super) async fn resume_if_last(&self, drained: impl Future<Output = ()>) {
        let first = async {
            let is_last = self.elector.take_if_last().await;
            if is_last {
                info!("the last replica stops; resuming what is held");
                self.resume_all().await;
            }
            is_last
        };
        let (is_last, ()) = tokio::join!(first, drained);
        if is_last {
            self.resume_all().await;
            self.elector.give_up().await;
        }
    }

    async fn resume_all(&self) {
        let begun = Instant::now();
        match timeout(LIMIT, self.resume_until_none_is_left()).await {
            Ok(resumed) if resumed > 0 => {
                info!(resumed, took = ?begun.elapsed(), "resumed what was held");
            }
            Ok(_) => {}
            Err(_) => warn!("not everything that is held could be resumed in time"),
        }
    }

    async fn resume_until_none_is_left(&self) -> usize {
        let mut resumed = 0;
        loop {
            match self.resume_once().await {
                Ok((ended, 0)) => {
                    resumed += ended;
                    // An empty list shows that no hold is left.
                    if ended == 0 {
                        return resumed;
                    }
                }
                Ok((ended, _)) => {
                    resumed += ended;
                    sleep(PAUSE).await;
                }
                Err(error) => {
                    warn!(%error, "what is held is not known");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Returns the number of holds that ended, and the number that could not be ended.
    async fn resume_once(&self) -> Result<(usize, usize), ListError> {
        let held = list_held(&self.client, &self.namespaces).await?;
        let targets = held.into_iter().map(Held::any).collect();
        let (mut ended, mut failed) = (0, 0);
        release_all(&self.client, targets, |key, result| match result {
            Ok(outcome) => {
                ended += 1;
                if outcome == ResumeOutcome::Resumed {
                    info!(deployment = %key, "resumed");
                    self.publish(key);
                }
            }
            Err(error) => {
                failed += 1;
                warn!(deployment = %key, %error, "cannot resume the rollout");
            }
        })
        .await;
        Ok((ended, failed))
    }

    fn publish(&self, key: &DeploymentKey) {
        let stored = self.store.read().get(key).map(|(stored, _)| stored.clone());
        if let Some(workload) = stored {
            let since = workload.state.held.and_then(|held| held.since);
            let subject = since.map(|since| since.to_string()).unwrap_or_default();
            let resumed = EventReason::RolloutResumed;
            let subject = format!("{subject} last replica");
            self.recorder
                .publish(&workload, resumed, &subject, NOTE.to_owned());
        }
    }
}
