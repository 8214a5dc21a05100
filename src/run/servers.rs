//! The two ports: HTTPS for the webhook, plain HTTP for probes and metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::certificate::Certificate;
use super::readiness::update_readiness;
use super::replica::{Replica, Shared};
use crate::config::ListenConfig;
use crate::server::{ACCEPT_LOOP, Readiness, Shutdown, listen, probes, serve_probes, serve_tls};
use crate::webhook::{HoldAdmission, MemoryBudget, Webhook, router};

/// The limit for answers in flight once no new connections are accepted.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// The ports, bound but not served yet.
pub(super) struct Listeners {
    webhook: TcpListener,
    probes: TcpListener,
}

impl Listeners {
    /// Fails if another process has one of the ports.
    pub(super) fn bind(config: &ListenConfig, webhook_threads: &Handle) -> Result<Self> {
        let probes = bind(config.probe_listen)?;
        let _entered = webhook_threads.enter();
        let webhook = bind(config.listen)?;
        Ok(Self { webhook, probes })
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    listen(address).with_context(|| format!("cannot listen on {address}"))
}

/// The served probes, and the bound port of the webhook.
pub(super) struct Probes {
    readiness: Arc<Readiness>,
    webhook: TcpListener,
    shutdown: Shutdown,
}

impl Probes {
    /// Serves the probes. The replica is live, and not ready.
    pub(super) fn start(replica: &Replica, listeners: Listeners) -> Result<Self> {
        let readiness = Arc::new(Readiness::default());
        let shutdown = Shutdown {
            draining: replica.stop.clone(),
            closing: CancellationToken::new(),
            deadline: CLOSE_DEADLINE,
        };
        let heartbeats = &replica.heartbeats;
        let routes = probes(
            readiness.clone(),
            heartbeats.clone(),
            replica.metrics.clone(),
        );
        let Listeners { webhook, probes } = listeners;
        let (supervisor, until) = (&replica.supervisor, shutdown.clone());
        serve_probes(probes, routes, until, supervisor, heartbeats)
            .context("cannot start the thread for probes")?;
        Ok(Self {
            readiness,
            webhook,
            shutdown,
        })
    }
}

/// The servers of both ports.
pub(super) struct Servers {
    /// Ends when the webhook's server has ended.
    pub(super) webhook: JoinHandle<()>,
    /// Cancelled to end both: requests in flight get [`CLOSE_DEADLINE`].
    pub(super) closing: CancellationToken,
}

impl Servers {
    /// Serves the webhook too. The replica becomes ready when its caches are complete and its certificate is trusted.
    pub(super) fn start(
        replica: &Replica,
        probes: Probes,
        certificate: Certificate,
        shared: Shared,
        namespaces: &[String],
    ) -> Self {
        let Probes {
            readiness,
            webhook: listener,
            shutdown,
        } = probes;
        let (accepting, accepts) = oneshot::channel();
        let update = update_readiness(
            readiness,
            shared.store.clone(),
            accepts,
            certificate.registered.subscribe(),
            replica.stop.clone(),
        );
        replica.supervisor.spawn("readiness", update);
        let closing = shutdown.closing.clone();
        let heartbeat = replica.heartbeats.begin(ACCEPT_LOOP);
        let router = router(webhook(replica, shared, namespaces));
        let tls = certificate.tls;
        let serving = serve_tls(listener, tls, router, accepting, shutdown, heartbeat);
        let threads = &replica.webhook_threads;
        Self {
            webhook: replica.supervisor.spawn_on(threads, ACCEPT_LOOP, serving),
            closing,
        }
    }
}

fn webhook(replica: &Replica, shared: Shared, namespaces: &[String]) -> Webhook {
    Webhook {
        reviews: shared.reviews,
        metrics: replica.metrics.clone(),
        own_namespace: replica.namespace.clone().into(),
        memory_budget: MemoryBudget::default(),
        holds: shared.hold_limits.map(|limits| HoldAdmission {
            store: shared.store,
            settings: shared.settings,
            limits,
            namespaces: namespaces.into(),
            permit: shared.permit,
            gate: replica.gate.clone(),
        }),
    }
}
