//! Certificates: one CA for all replicas, kept in a Secret, and a short-lived leaf that each signs for itself.
//!
//! - [`ca`]: makes CAs and leaves
//! - [`trust`]: what the Secret holds, and how a CA is replaced without one failed call: decisions only
//! - `ca_secret`: the Secret in the API server
//! - [`ca_controller`]: watches the Secret, signs, swaps, and leads rotations
//! - [`resolver`]: serves the newest leaf, without touching open connections
//! - [`files`]: a certificate that another controller manages, read from files
//!
//! The CA is read through the API, never mounted: the kubelet takes up to 90 s to refresh a mount. A leaf's key
//! never leaves the process.

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

/// How long certificates are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a CA: the next one is made at half of it.
    pub ca: Duration,
    /// Of a leaf: each replica renews its own at half of it, and at every start.
    pub leaf: Duration,
}

impl Lifetimes {
    /// How many times longer a CA must live than a leaf: the next CA is made at half of its life, a leaf that was
    /// signed just before that has to live on, and the CA before must be forgotten by then.
    pub const LEAVES_PER_CA: u32 = 4;
    /// X.509 counts in whole seconds, and a renewal needs some of them.
    pub const SHORTEST_LEAF: Duration = Duration::from_secs(4);

    /// How often the wall clock is looked at: a machine that was suspended must not miss a renewal, so never
    /// less than once a minute.
    pub fn check_interval(&self) -> Duration {
        (self.leaf / 20).clamp(Duration::from_millis(100), Duration::from_secs(60))
    }

    /// How long a CA that signs no more stays trusted: its last leaf's life, and a quarter of it for clocks that
    /// disagree.
    fn retirement(&self) -> Duration {
        self.leaf + self.leaf / 4
    }

    /// How long a new CA is in every `caBundle` before a leaf is signed with it: an API server learns of a changed
    /// configuration by its own watch, and some are slower than the one that we read it back from.
    fn propagation(&self) -> Duration {
        (self.leaf / 4).min(Duration::from_secs(10))
    }
}

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Signing failed.
    #[error("cannot make a certificate")]
    Sign(#[from] rcgen::Error),
    /// What is called a certificate is none.
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
    /// The CAs that clients are checked against cannot be used.
    #[error("no client certificate could be checked against {0}")]
    ClientCa(PathBuf, #[source] rustls::server::VerifierBuilderError),
}
