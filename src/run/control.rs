//! The parts of a replica that use the API server all the time: its watches, the election, and the controller.

use std::sync::Arc;

use headstart_core::pod::PodSettings;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::last_replica::LastReplica;
use super::leader_loop::run_controller_while_leading;
use super::replica::{Replica, Shared};
use super::settings::controller_config;
use crate::config::Config;
use crate::driver::{Driver, DriverClock, Executor};
use crate::event_recorder::EventRecorder;
use crate::leader_election::{ControllerReport, LeaderElector};
use crate::watch::{SharedStore, Watches};

/// The name of the task that takes and renews the lease.
const ELECTION: &str = "leader election";

/// The tasks that run for the lease and under it.
pub(super) struct Control {
    pub(super) controller: JoinHandle<()>,
    pub(super) election: JoinHandle<()>,
    /// Cancelled when the controller has ended: the election gives up the lease.
    pub(super) controller_done: CancellationToken,
    /// `None` if rollouts are not held.
    pub(super) last_replica: Option<LastReplica>,
}

impl Control {
    /// Starts the election, and the controller for each term.
    pub(super) fn start(
        replica: &Replica,
        config: &Config,
        shared: &Shared,
        recorder: EventRecorder,
    ) -> Self {
        let controller_done = CancellationToken::new();
        let report = ControllerReport::default();
        let elector = elector(replica, config, &report);
        let election = start_election(replica, elector.clone(), controller_done.clone());
        let last_replica = shared.hold_limits.map(|_| LastReplica {
            elector,
            client: replica.client.clone(),
            namespaces: config.scope.namespaces.clone(),
            store: shared.store.clone(),
            recorder: recorder.clone(),
        });
        let controller = run_controller_while_leading(
            driver(replica, config, shared, recorder, report),
            replica.leading.subscribe(),
            replica.stop.clone(),
        );
        Self {
            controller: replica.supervisor.spawn("controller", controller),
            election,
            controller_done,
            last_replica,
        }
    }
}

/// Starts the task that writes events. It ends when the last recorder is dropped.
pub(super) fn start_event_recorder(replica: &Replica) -> (EventRecorder, JoinHandle<()>) {
    let (client, metrics) = (replica.client.clone(), replica.metrics.clone());
    let (recorder, writer) = EventRecorder::new(client, &replica.identity, metrics);
    (recorder, replica.supervisor.spawn("event recorder", writer))
}

/// Starts the watches. Returns the store that they feed.
pub(super) fn start_watches(
    replica: &Replica,
    config: &Config,
    settings: &Arc<PodSettings>,
) -> Arc<SharedStore> {
    let store = SharedStore::new(&replica.namespace);
    let watches = Watches {
        client: replica.client.clone(),
        store: store.clone(),
        metrics: replica.metrics.clone(),
        identity: replica.identity.clone(),
        namespaces: config.scope.namespaces.clone(),
        pods: settings.clone(),
        node_images: config.scope.trust_node_images,
    };
    watches.spawn(&replica.supervisor, &replica.heartbeats);
    store
}

fn elector(replica: &Replica, config: &Config, report: &ControllerReport) -> LeaderElector {
    LeaderElector {
        client: replica.client.clone(),
        namespace: replica.namespace.clone(),
        name: "headstart".to_owned(),
        identity: replica.identity.clone(),
        duration: config.process.lease_duration,
        clock: replica.clock.clone(),
        fence: replica.fence.clone(),
        heartbeats: replica.heartbeats.clone(),
        report: report.clone(),
        gate: replica.gate.clone(),
    }
}

/// Starts the leader election. It gives the lease up when `controller_done` is cancelled.
fn start_election(
    replica: &Replica,
    elector: LeaderElector,
    controller_done: CancellationToken,
) -> JoinHandle<()> {
    let election = elector.run(
        replica.leading.clone(),
        replica.stop.clone(),
        controller_done,
    );
    let supervisor = replica.supervisor.clone();
    let election = async move {
        if let Err(error) = election.await {
            supervisor.fail(ELECTION, &error);
        }
    };
    replica.supervisor.spawn(ELECTION, election)
}

/// Returns the driver, which runs a controller in each term.
fn driver(
    replica: &Replica,
    config: &Config,
    shared: &Shared,
    recorder: EventRecorder,
    report: ControllerReport,
) -> Driver {
    Driver {
        store: shared.store.clone(),
        reviews: shared.reviews.clone(),
        executor: Executor {
            client: replica.client.clone(),
            metrics: replica.metrics.clone(),
            fence: replica.fence.clone(),
        },
        recorder,
        metrics: replica.metrics.clone(),
        permit: shared.permit.clone(),
        config: controller_config(config, shared.hold_limits, shared.settings.clone()),
        clock: DriverClock::start(replica.clock.clone()),
        heartbeats: replica.heartbeats.clone(),
        report,
        gate: replica.gate.clone(),
    }
}
