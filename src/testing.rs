//! The items that headstart's own tests, benches and fuzz targets use. Not part of its public surface.

use std::sync::Arc;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::heartbeat::Heartbeats;
use crate::server;

pub use crate::cli::manifest::{Reason, read as read_manifest, silence_parser};
pub use crate::cli::uninstall::kinds as uninstalled_kinds;
pub use crate::clock::Clock;
pub use crate::hold_gate::HoldGate;
pub use crate::metrics::Metrics;
pub use crate::run::{ApiServer, ReplicaWithoutServers};
pub use crate::server::Shutdown;
pub use crate::tls::ca_controller::{CaController, CaSettings, Channels};
pub use crate::tls::files::CertFiles;
pub use crate::tls::trust::TrustedRoots;
pub use crate::tls::{Ca, Lifetimes, Resolver};
pub use crate::watch::SharedStore;
pub use crate::webhook::{
    HoldAdmission, MAX_BODY, MAX_PENDING_REVIEWS, MemoryBudget, PendingReviews, REVIEW_LIFETIME,
    RequestError, ReviewResponse, Webhook, router,
};

/// Serves HTTPS until shut down; reports through `accepting` when connections are accepted.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    accepting: oneshot::Sender<()>,
    shutdown: Shutdown,
) {
    let heartbeat = Heartbeats::default().begin(server::ACCEPT_LOOP);
    server::serve_tls(listener, tls, router, accepting, shutdown, heartbeat).await;
}
