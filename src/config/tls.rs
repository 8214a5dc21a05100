//! The serving certificate, the CA that signs it, and the webhook configurations that carry the CA.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::duration;
use crate::tls::Lifetimes;

/// The serving certificate, the CA that signs it, and the webhook configurations that carry the CA.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Certificates")]
pub struct TlsConfig {
    /// Further DNS names or IP addresses for the certificate (comma-separated)
    #[arg(
        long,
        env = "HEADSTART_TLS_SAN",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub tls_san: Vec<String>,

    /// Secret with the CA in headstart's namespace; made if it is absent
    #[arg(
        long,
        env = "HEADSTART_CA_SECRET",
        default_value = "headstart-ca",
        value_name = "NAME"
    )]
    pub ca_secret: String,

    /// How long a CA is valid; its successor is made at half of it, and used once every caBundle carries it
    #[arg(long, env = "HEADSTART_CA_LIFETIME", default_value = "8760h", value_parser = duration, value_name = "DURATION")]
    pub ca_lifetime: Duration,

    /// How long a serving certificate is valid; each replica signs a new one at half of it
    #[arg(long, env = "HEADSTART_LEAF_LIFETIME", default_value = "24h", value_parser = duration, value_name = "DURATION")]
    pub leaf_lifetime: Duration,

    /// Serve this certificate (PEM) instead of one that headstart signs; caBundle is then yours to write.
    ///
    /// Read again when it is replaced. For cert-manager: mount the Secret of a Certificate for
    /// SERVICE.NAMESPACE.svc, give its tls.crt here and its tls.key below, and annotate both webhook
    /// configurations with cert-manager.io/inject-ca-from: NAMESPACE/CERTIFICATE.
    #[arg(
        long,
        env = "HEADSTART_TLS_CERT",
        requires = "tls_key",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,

    /// The key (PEM) of --tls-cert
    #[arg(
        long,
        env = "HEADSTART_TLS_KEY",
        requires = "tls_cert",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// Serve only clients with a certificate of one of these CAs (PEM).
    ///
    /// The API server shows one if its --admission-control-config-file names, for MutatingAdmissionWebhook and
    /// ValidatingAdmissionWebhook, a kubeConfigFile with a user "SERVICE.NAMESPACE.svc" that has a
    /// client-certificate and a client-key. See docs/client-certificates.md.
    #[arg(long, env = "HEADSTART_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,

    /// Name of the MutatingWebhookConfiguration and the ValidatingWebhookConfiguration whose caBundle is kept
    #[arg(
        long,
        env = "HEADSTART_WEBHOOK_CONFIGURATION",
        default_value = "headstart",
        value_name = "NAME"
    )]
    pub webhook_configuration: String,
}

impl TlsConfig {
    /// Returns how long certificates are valid, or an error that names the flag to change.
    pub fn lifetimes(&self) -> Result<Lifetimes, String> {
        let (ca, leaf) = (self.ca_lifetime, self.leaf_lifetime);
        let shortest = Lifetimes::SHORTEST_LEAF;
        if leaf < shortest {
            return Err(format!(
                "--leaf-lifetime is {leaf:?}; want at least {shortest:?}"
            ));
        }
        let times = Lifetimes::LEAVES_PER_CA;
        if ca < leaf.saturating_mul(times) {
            return Err(format!(
                "--ca-lifetime is {ca:?}; want at least {times} times --leaf-lifetime, which is {leaf:?}: \
                 a CA must outlive the certificates that it signed in the first half of its life"
            ));
        }
        // X.509 can say more, but 100 years are a typing error.
        let longest = Duration::from_secs(100 * 365 * 24 * 3600);
        if ca > longest {
            return Err(format!("--ca-lifetime is {ca:?}; want at most {longest:?}"));
        }
        Ok(Lifetimes { ca, leaf })
    }
}
