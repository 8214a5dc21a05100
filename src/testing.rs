//! What headstart's own tests, benches and fuzz targets need of it. No part of its public surface.

pub use crate::cli::manifest::{Reason, read as read_manifest, silence_parser};
pub use crate::clock::Clock;
pub use crate::cluster::{Cluster, Settings as ClusterSettings};
pub use crate::hold::Gate;
pub use crate::metrics::Metrics;
pub use crate::queue::{HINT_LIFETIME, Hints, MAX_HINTS};
pub use crate::server::{Shutdown, serve_tls};
pub use crate::tls::ca_controller::{CaController, CaSettings, Channels};
pub use crate::tls::files::CertFiles;
pub use crate::tls::trust::TrustedRoots;
pub use crate::tls::{Ca, Lifetimes, Resolver};
pub use crate::webhook::{MAX_BODY, MemoryBudget, RequestError, ReviewResponse, Webhook, router};
