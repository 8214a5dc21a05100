//! What headstart's own tests, benches and fuzz targets need of it. No part of its public surface.

pub use crate::cli::manifest::{Reason, read as read_manifest, silence_parser};
pub use crate::clock::Clock;
pub use crate::cluster::{Cluster, Settings as ClusterSettings};
pub use crate::hold::Gate;
pub use crate::metrics::Metrics;
pub use crate::queue::{HINT_LIFETIME, Hints, MAX_HINTS};
pub use crate::server::{Shutdown, serve_tls};
pub use crate::tls::files::Files;
pub use crate::tls::keeper::{Channels, Keeper, Settings as KeeperSettings};
pub use crate::tls::trust::Trusted;
pub use crate::tls::{Authority, Lifetimes, Resolver};
pub use crate::webhook::{Answer, Budget, MAX_BODY, Refused, Webhook, router};
