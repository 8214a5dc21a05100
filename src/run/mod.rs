//! `headstart serve`: makes the parts from the configuration, starts them, and stops them in order.
//!
//! - `certificate`: the serving certificate, from files or signed by headstart's CA
//! - `control`: watches, election and controller
//! - `last_replica`: resumes every held rollout, if no other replica is left
//! - `leader_loop`: the controller, while this replica leads
//! - `servers`: the ports of the webhook and of the probes
//! - `readiness`: the answer of `/readyz`
//! - `shutdown`: the causes that end the process, and the order in which its parts end
//! - `start_retry`: requests of the start, repeated until the API server answers
//! - `settings`: the settings of pods and of the controller, from the configuration
//! - `without_servers`: a replica for tests, which has no ports
//! - `log`, `process`, `rbac_check`: the log, the process around the server, and its rights
//!
//! The parts run on separate threads, so that load on the webhook delays neither the lease nor a probe. One thread is for all
//! requests to the API server, one for the probes, and some for the webhook.

mod certificate;
mod control;
mod last_replica;
mod leader_loop;
mod log;
mod process;
mod rbac_check;
mod readiness;
mod replica;
mod servers;
mod settings;
mod shutdown;
mod start_retry;
mod without_servers;

use std::sync::Arc;

use anyhow::{Result, bail};
use kube::Client;
use tokio::runtime::{Builder, Handle};
use tracing::{info, warn};

use crate::config::Config;
use crate::event_recorder::EventRecorder;
use crate::self_test::{Permit, SelfTest};
use crate::supervisor::Supervisor;
use certificate::Certificate;
use control::{Control, start_event_recorder, start_watches};
use headstart_core::hold;
use headstart_core::self_test::Address;
use log::init_tracing;
use process::Signals;
pub(crate) use process::client;
use replica::{Replica, Shared};
use servers::{Listeners, Probes, Servers};
use settings::pod_settings;
use shutdown::Running;
use start_retry::until_answered;
pub use without_servers::{ApiServer, ReplicaWithoutServers};

/// Serves until told to stop.
pub fn run(config: Config) -> Result<()> {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        bail!("another TLS provider was installed already");
    }
    let webhook = Builder::new_multi_thread()
        .thread_name("webhook")
        .enable_all()
        .build()?;
    let control = Builder::new_current_thread().enable_all().build()?;
    let outcome = control.block_on(serve(config, webhook.handle().clone()));
    // Only blocking tasks are left: a review that is being parsed, or a name that is being resolved. Neither is waited for.
    webhook.shutdown_background();
    control.shutdown_background();
    outcome
}

async fn serve(config: Config, webhook_threads: Handle) -> Result<()> {
    let lifetimes = config.tls.lifetimes().map_err(anyhow::Error::msg)?;
    let hold_limits = config.holds.hold_limits().map_err(anyhow::Error::msg)?;
    let log = init_tracing(config.process.log_format);
    let mut signals = Signals::install()?;
    let (supervisor, mut first_end) = Supervisor::new();

    // Check, bind, spawn: an error fails the start before anything else has begun.
    let replica = Replica::connect(&config, supervisor, webhook_threads).await?;
    let settings = Arc::new(pod_settings(&config.pods)?);
    let listeners = Listeners::bind(&config.listen, &replica.webhook_threads)?;
    let (listen, probe_listen) = (config.listen.listen, config.listen.probe_listen);
    let (identity, noop_image) = (&replica.identity, &settings.noop_image);
    info!(%listen, %probe_listen, %identity, %noop_image, "starting");
    replica.supervisor.spawn("log", log);
    // If the API server is away, the process waits for it: live, and not ready.
    let probes = Probes::start(&replica, listeners)?;
    let store = start_watches(&replica, &config, &settings);
    let answers = async {
        let limits = hold_limits_if_resumable(hold_limits, &replica.client, &config);
        let certificate = Certificate::start(&replica, &config, lifetimes);
        tokio::try_join!(limits, certificate)
    };
    let (hold_limits, certificate) = tokio::select! {
        biased;
        () = signals.next() => return Ok(()),
        error = first_end.wait() => return Err(error.into()),
        answers = answers => answers?,
    };

    let (recorder, event_writer) = start_event_recorder(&replica);
    let permit = start_self_test(&replica, &config, recorder.clone());
    let shared = Shared {
        store,
        reviews: Arc::default(),
        settings,
        permit,
        hold_limits,
    };
    let control = Control::start(&replica, &config, &shared, recorder);
    let namespaces = &config.scope.namespaces;
    let servers = Servers::start(&replica, probes, certificate, shared, namespaces);
    let running = Running {
        control,
        servers,
        event_writer,
        first_end,
        stop: replica.stop.clone(),
        gate: replica.gate.clone(),
        drain: config.process.drain,
    };
    running.until_stopped(&mut signals).await
}

/// Returns the limits, or `None` if this account could not resume the rollouts that it holds.
async fn hold_limits_if_resumable(
    limits: Option<hold::HoldLimits>,
    client: &Client,
    config: &Config,
) -> Result<Option<hold::HoldLimits>> {
    if limits.is_none() {
        return Ok(None);
    }
    let namespaces = &config.scope.namespaces;
    let can_resume = until_answered("our own rights are not known", async || {
        rbac_check::can_resume(client, namespaces).await
    });
    if !can_resume.await? {
        warn!(
            "rollouts are not held: without the right to get and patch Deployments they could not be resumed"
        );
        return Ok(None);
    }
    Ok(limits)
}

/// Starts the self-test. Returns the permit that it grants.
fn start_self_test(replica: &Replica, config: &Config, recorder: EventRecorder) -> Permit {
    let installation = config.installation.clone();
    let self_test = SelfTest {
        namespace: replica.namespace.clone(),
        pod: installation.pod_name,
        deployment: installation.deployment,
        configuration: config.tls.webhook_configuration.clone(),
        address: Address {
            service: installation.service,
            namespace: replica.namespace.clone(),
            hosts: config.tls.tls_san.clone(),
        },
        identity: replica.identity.clone(),
        metrics: replica.metrics.clone(),
        recorder,
    };
    let required = config.pods.require_policies;
    let (permit, self_test) = self_test.start(replica.client.clone(), required);
    let stop = replica.stop.clone();
    let self_test = async move {
        stop.run_until_cancelled_owned(self_test).await;
    };
    replica.supervisor.spawn("self-test", self_test);
    permit
}
