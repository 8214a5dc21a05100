//! A replica without its servers and its self-test, around an API server and a clock that are passed in: what a test of the whole
//! control loop runs.

use std::sync::Arc;

use anyhow::Result;
use futures::FutureExt;
use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use tokio_util::sync::CancellationToken;
use tower::BoxError;
use tower::util::BoxService;

use super::control::{Control, start_event_recorder, start_watches};
use super::process::with_layers;
use super::replica::{Replica, Shared};
use super::servers::Servers;
use super::settings::pod_settings;
use super::shutdown::Running;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::self_test::Permit;
use crate::supervisor::Supervisor;

/// The API server of a test.
pub type ApiServer = BoxService<Request<Body>, Response<axum::body::Body>, BoxError>;

/// A replica that watches, takes part in the election, and runs the controller while it leads.
pub struct ReplicaWithoutServers {
    running: Running,
    metrics: Arc<Metrics>,
}

impl ReplicaWithoutServers {
    /// Starts it on the runtime that this is called in.
    ///
    /// # Errors
    /// The configuration lacks something.
    pub fn start(config: &Config, api_server: ApiServer, clock: Clock) -> Result<Self> {
        let (supervisor, first_end) = Supervisor::new();
        let metrics = Arc::new(Metrics::default());
        let settings = Arc::new(pod_settings(&config.pods)?);
        let client = ClientBuilder::new(api_server, config.installation.namespace.as_str());
        let client = with_layers(client, &metrics);
        let replica = Replica::new(client, metrics.clone(), clock, config, supervisor);
        let store = start_watches(&replica, config, &settings);
        let (recorder, event_writer) = start_event_recorder(&replica);
        let shared = Shared {
            store,
            reviews: Arc::default(),
            settings,
            permit: Permit::default(),
            hold_limits: config.holds.hold_limits().map_err(anyhow::Error::msg)?,
        };
        let closing = CancellationToken::new();
        let running = Running {
            control: Control::start(&replica, config, &shared, recorder),
            servers: Servers {
                webhook: tokio::spawn(closing.clone().cancelled_owned()),
                closing,
            },
            event_writer,
            first_end,
            stop: replica.stop.clone(),
            gate: replica.gate.clone(),
            drain: config.process.drain,
        };
        Ok(Self { running, metrics })
    }

    /// Returns the metrics in the text exposition format.
    pub fn metrics(&self) -> String {
        self.metrics.encode()
    }

    /// Returns why the process would have ended, if an essential task has.
    pub fn failure(&mut self) -> Option<String> {
        let ended = self.running.first_end.wait().now_or_never();
        ended.map(|error| error.to_string())
    }

    /// Stops it as a signal does. Only the watches are left then: they run until the process ends.
    pub async fn stop(self) {
        self.running.stop_in_order(true).await;
    }
}
