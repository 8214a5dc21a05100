//! Certificates: one CA for all replicas, kept in a Secret, and a short-lived leaf that each replica signs for itself.
//!
//! - [`ca`]: makes CAs and leaves
//! - [`trust`]: the content of the Secret, and the decisions by which a CA is replaced without one failed call
//! - `ca_secret`: the Secret in the API server
//! - [`ca_controller`]: watches the Secret, signs, swaps, and leads rotations
//! - [`resolver`]: serves the newest leaf, without touching open connections
//! - [`files`]: a certificate that another controller manages, read from files
//!
//! The CA is read through the API, never mounted: the kubelet takes up to 90 s to refresh a mount. A leaf's key never leaves
//! the process.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::pem;

pub(crate) mod ca;
pub(crate) mod ca_controller;
mod ca_secret;
pub(crate) mod files;
pub(crate) mod resolver;
pub(crate) mod trust;

pub use ca::Ca;
pub(crate) use ca::LeafCert;
pub use resolver::Resolver;

/// The lifetimes of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a CA: the next one is made at half of it.
    pub ca: Duration,
    /// Of a leaf: each replica renews its own at half of it, and at every start.
    pub leaf: Duration,
}

impl Lifetimes {
    /// The smallest ratio of a CA's lifetime to a leaf's. The next CA is made at half of a CA's life. A leaf that was signed
    /// just before that has to live on, and the previous CA must be forgotten by then.
    pub const LEAVES_PER_CA: u32 = 4;
    /// X.509 counts in whole seconds, and a renewal needs some of them.
    pub const SHORTEST_LEAF: Duration = Duration::from_secs(4);

    /// Returns the interval at which the wall clock is checked. It is at most a minute, because a machine that was suspended
    /// must not miss a renewal.
    pub fn check_interval(&self) -> Duration {
        (self.leaf / 20).clamp(Duration::from_millis(100), Duration::from_secs(60))
    }

    /// Returns the duration for which a CA that signs no more stays trusted: its last leaf's life, and a quarter of that for
    /// clocks that disagree.
    fn retirement(&self) -> Duration {
        self.leaf + self.leaf / 4
    }

    /// Returns the duration for which a new CA is in every `caBundle` before it signs a leaf. An API server learns of a
    /// changed configuration by its own watch, and may be slower than the one that we read it back from.
    fn propagation(&self) -> Duration {
        (self.leaf / 4).min(Duration::from_secs(10))
    }
}

/// An error about certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Signing failed.
    #[error("cannot make a certificate")]
    Sign(#[from] rcgen::Error),
    /// The content is not an X.509 certificate.
    #[error("this is not an X.509 certificate")]
    BadCertificate,
    /// The Secret cannot be read or written.
    #[error(
        "cannot read or write the Secret {0}; check that its Role allows create, get, list, watch and update"
    )]
    Secret(String, #[source] Box<kube::Error>),
    /// The API server did not answer.
    #[error("reading or writing the Secret {0} timed out")]
    Timeout(String),
    /// A file cannot be used.
    #[error("{0} is not a PEM file of the expected kind")]
    BadFile(PathBuf, #[source] pem::Error),
    /// Certificate and key are no pair, or of a kind that cannot be served.
    #[error(
        "the certificate cannot be served: certificate and key must be a pair, the key ECDSA, Ed25519 or RSA"
    )]
    Unusable(#[source] rustls::Error),
    /// The CAs for client certificates cannot be used.
    #[error("no client certificate could be checked against {0}")]
    ClientCa(PathBuf, #[source] rustls::server::VerifierBuilderError),
}
