//! What headstart's own tests, benches and fuzz targets need of it. No part of its public surface.

pub use crate::cli::manifest::{Reason, read as read_manifest, silence_parser};
pub use crate::clock::Clock;
pub use crate::metrics::Metrics;
pub use crate::server::{Shutdown, serve_tls};
pub use crate::tls::ca_controller::{CaController, CaSettings, Channels};
pub use crate::tls::files::CertFiles;
pub use crate::tls::trust::TrustedRoots;
pub use crate::tls::{Ca, Lifetimes, Resolver};
pub use crate::watch::SharedStore;
pub use crate::webhook::{
    HoldAdmission, MAX_BODY, MAX_PENDING_REVIEWS, MemoryBudget, PendingReviews, REVIEW_LIFETIME,
    RequestError, ReviewResponse, Webhook, router,
};
