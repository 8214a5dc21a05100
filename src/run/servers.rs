//! The two ports: HTTPS for the webhook, plain HTTP for probes and metrics.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::certificate::Certificate;
use super::readiness::update_readiness;
use super::replica::{Replica, Shared};
use crate::config::ListenConfig;
use crate::server::{Readiness, Shutdown, listen, probes, serve_probes, serve_tls};
use crate::webhook::{HoldAdmission, MemoryBudget, Webhook, router};

/// How long answers in flight may take once no new ones are accepted.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// The ports, bound but not served yet.
pub(super) struct Listeners {
    webhook: TcpListener,
    probes: TcpListener,
}

impl Listeners {
    /// Fails if another process has one of the ports.
    pub(super) fn bind(config: &ListenConfig) -> Result<Self> {
        Ok(Self {
            webhook: bind(config.listen)?,
            probes: bind(config.probe_listen)?,
        })
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    listen(address).with_context(|| format!("cannot listen on {address}"))
}

/// The servers of both ports.
pub(super) struct Servers {
    /// Ends when the webhook's server has ended.
    pub(super) webhook: JoinHandle<()>,
    /// Ends when the thread for probes has ended.
    pub(super) probes: oneshot::Receiver<Infallible>,
    /// Cancelled to end both: requests in flight get [`CLOSE_DEADLINE`].
    pub(super) closing: CancellationToken,
}

impl Servers {
    /// Serves both ports. The replica becomes ready when its caches are complete and its certificate is trusted.
    pub(super) fn start(
        replica: &Replica,
        listeners: Listeners,
        certificate: Certificate,
        shared: Shared,
        namespaces: &[String],
    ) -> Result<Self> {
        let readiness = Arc::new(Readiness::default());
        let (accepting, accepts) = oneshot::channel();
        replica.tasks.spawn(update_readiness(
            readiness.clone(),
            shared.store.clone(),
            accepts,
            certificate.registered.subscribe(),
            replica.stop.clone(),
        ));
        let closing = CancellationToken::new();
        let shutdown = Shutdown {
            draining: replica.stop.clone(),
            closing: closing.clone(),
            deadline: CLOSE_DEADLINE,
        };
        let heartbeat = replica.heartbeat.clone();
        let probes = probes(readiness, heartbeat, replica.metrics.clone());
        let probes = serve_probes(listeners.probes, probes, shutdown.clone())
            .context("cannot start the thread for probes")?;
        let webhook = webhook(replica, shared, namespaces);
        let server = serve_tls(
            listeners.webhook,
            certificate.tls,
            router(webhook),
            accepting,
            shutdown,
        );
        Ok(Self {
            webhook: tokio::spawn(server),
            probes,
            closing,
        })
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
        }),
    }
}
