//! The handles that the parts of this replica share.

use std::sync::Arc;

use anyhow::Result;
use headstart_core::hold::HoldLimits;
use headstart_core::pod::PodSettings;
use kube::Client;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::process::{client_with_metrics, random_identity};
use crate::clock::Clock;
use crate::config::Config;
use crate::fence::Fence;
use crate::heartbeat::Heartbeats;
use crate::hold_gate::HoldGate;
use crate::metrics::Metrics;
use crate::self_test::Permit;
use crate::supervisor::Supervisor;
use crate::watch::SharedStore;
use crate::webhook::PendingReviews;

/// The handles that all parts of this replica share.
pub(super) struct Replica {
    pub(super) client: Client,
    pub(super) metrics: Arc<Metrics>,
    /// The namespace that headstart runs in.
    pub(super) namespace: String,
    /// The name of this replica, unique among the replicas.
    pub(super) identity: String,
    /// Starts the tasks that must not end before the process.
    pub(super) supervisor: Supervisor,
    /// The threads of the webhook. All other parts run elsewhere, so that callers of the webhook cannot keep them busy.
    pub(super) webhook_threads: Handle,
    /// True while this replica leads.
    pub(super) leading: watch::Sender<bool>,
    /// Cancelled when the process is told to stop.
    pub(super) stop: CancellationToken,
    /// Closed when the lease runs out.
    pub(super) fence: Fence,
    /// Records that the loops turn.
    pub(super) heartbeats: Heartbeats,
    /// Open while the webhook may hold a rollout.
    pub(super) gate: HoldGate,
    /// Tells the time of day.
    pub(super) clock: Clock,
}

impl Replica {
    /// Makes the client, which fails without a cluster, and the channels.
    pub(super) async fn connect(
        config: &Config,
        supervisor: Supervisor,
        webhook_threads: Handle,
    ) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let kubeconfig = config.process.kubeconfig.clone();
        let client = client_with_metrics(kubeconfig, &metrics).await?;
        let clock = Clock::system();
        let replica = Self::new(client, metrics, clock, config, supervisor);
        Ok(Self {
            webhook_threads,
            ..replica
        })
    }

    /// Makes the channels. All threads are those of the runtime that this is called in.
    pub(super) fn new(
        client: Client,
        metrics: Arc<Metrics>,
        clock: Clock,
        config: &Config,
        supervisor: Supervisor,
    ) -> Self {
        let pod_name = config.installation.pod_name.clone();
        Self {
            client,
            metrics,
            namespace: config.installation.namespace.clone(),
            identity: pod_name.unwrap_or_else(random_identity),
            supervisor,
            webhook_threads: Handle::current(),
            leading: watch::Sender::new(false),
            stop: CancellationToken::new(),
            fence: Fence::default(),
            heartbeats: Heartbeats::default(),
            gate: HoldGate::default(),
            clock,
        }
    }
}

/// The parts that the webhook and the controller share.
pub(super) struct Shared {
    pub(super) store: Arc<SharedStore>,
    pub(super) reviews: Arc<PendingReviews>,
    pub(super) settings: Arc<PodSettings>,
    pub(super) permit: Permit,
    /// `None` if rollouts are not held.
    pub(super) hold_limits: Option<HoldLimits>,
}
