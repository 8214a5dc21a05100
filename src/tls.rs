//! Certificates: one CA for all replicas, kept in a Secret, and a short-lived leaf that each signs for itself.
//!
//! The CA is read through the API, never mounted: the kubelet takes up to 90 s to refresh a mount. The leaf's
//! key never leaves the process. The resolver swaps a new leaf in without touching open connections.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tracing::info;

use crate::domain::contract::{MANAGED_BY_LABEL, MANAGER};

/// The Secret's keys, as `kubernetes.io/tls` wants them.
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Lifetime of the CA. Ten years, as cluster CAs have.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Lifetime of a leaf: each replica renews its own at half of it, and at every start.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Certificates are valid from a little before they are made, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(300);
/// Once a minute against the wall clock: a machine that was suspended must not miss the renewal.
const RENEWAL_CHECK: Duration = Duration::from_secs(60);

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Signing failed.
    #[error("cannot make a certificate")]
    Sign(#[from] rcgen::Error),
    /// The Secret cannot be read or created.
    #[error(
        "cannot read or create the Secret {0}; check that its Role allows get and create on secrets"
    )]
    Secret(String, #[source] kube::Error),
    /// The Secret does not hold what it should.
    #[error("the Secret {0} has no usable {CERT} and {KEY}; delete it, and a new CA is made")]
    BadSecret(String),
    /// A file cannot be used.
    #[error("{0} is not a PEM file of the expected kind")]
    BadFile(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// Certificate and key are no pair, or of a kind that cannot be served.
    #[error(
        "the certificate cannot be served: certificate and key must be a pair, the key ECDSA, Ed25519 or RSA"
    )]
    Unusable(#[source] rustls::Error),
}

/// A certificate authority.
pub struct Authority {
    cert: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        f.debug_struct("Authority")
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}

/// A certificate and its key, as PEM.
pub struct Leaf {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
    /// When it expires.
    pub expires: OffsetDateTime,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        f.debug_struct("Leaf")
            .field("cert", &self.cert)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one.
    pub fn generate() -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let now = OffsetDateTime::now_utc();
        params.not_before = now - BACKDATE;
        params.not_after = now + CA_LIFETIME;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params
            .distinguished_name
            .push(DnType::CommonName, "headstart webhook CA");
        let cert = params.self_signed(&key)?.pem();
        Self::from_pem(cert, key.serialize_pem())
    }

    /// Reads one back.
    pub fn from_pem(cert: String, key: String) -> Result<Self, TlsError> {
        let issuer = Issuer::from_ca_cert_pem(&cert, KeyPair::from_pem(&key)?)?;
        Ok(Self { cert, key, issuer })
    }

    /// The certificate, as PEM: what goes into a `caBundle`.
    pub fn cert(&self) -> &str {
        &self.cert
    }

    /// The private key, as PEM.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Signs a server certificate for these names (DNS names or IP addresses).
    pub fn issue(&self, names: &[String]) -> Result<Leaf, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - BACKDATE;
        params.not_after = now + LEAF_LIFETIME;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params
            .distinguished_name
            .push(DnType::CommonName, "headstart webhook");
        let expires = params.not_after;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Leaf {
            cert,
            key: key.serialize_pem(),
            expires,
        })
    }

    /// The cluster's CA: the one in the Secret, or a new one put there. Of replicas that start at once, one
    /// creates it and the others read it.
    pub async fn load_or_create(
        client: &Client,
        namespace: &str,
        name: &str,
    ) -> Result<Self, TlsError> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let failed = |error| TlsError::Secret(format!("{namespace}/{name}"), error);
        let secret = match api.get_opt(name).await.map_err(failed)? {
            Some(secret) => secret,
            None => match api
                .create(&PostParams::default(), &Self::generate()?.to_secret(name))
                .await
            {
                Ok(secret) => {
                    info!(secret = %format_args!("{namespace}/{name}"), "made a CA");
                    secret
                }
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    api.get(name).await.map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            },
        };
        let text = |key: &str| {
            let bytes = secret.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.0.clone()).ok()
        };
        let bad = || TlsError::BadSecret(format!("{namespace}/{name}"));
        let (cert, key) = text(CERT).zip(text(KEY)).ok_or_else(bad)?;
        Self::from_pem(cert, key).map_err(|_| bad())
    }

    fn to_secret(&self, name: &str) -> Secret {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.into(), MANAGER.into())])),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(BTreeMap::from([
                (CERT.into(), bytes(&self.cert)),
                (KEY.into(), bytes(&self.key)),
            ])),
            ..Secret::default()
        }
    }
}

/// Serves the newest leaf to every new connection.
#[derive(Debug)]
pub struct Resolver(ArcSwap<CertifiedKey>);

impl Resolver {
    /// Serves this certificate; it fails if certificate and key are no pair.
    pub fn new(cert: &str, key: &str) -> Result<Arc<Self>, TlsError> {
        let certified = certified(
            cert.as_bytes(),
            key.as_bytes(),
            Path::new("certificate"),
            Path::new("key"),
        )?;
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified))))
    }

    /// Serves the certificate and key of these files.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| {
                TlsError::BadFile(path.into(), rustls::pki_types::pem::Error::Io(error))
            })
        };
        let certified = certified(&read(cert)?, &read(key)?, cert, key)?;
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified))))
    }

    fn replace(&self, leaf: &Leaf) -> Result<(), TlsError> {
        let certified = certified(
            leaf.cert.as_bytes(),
            leaf.key.as_bytes(),
            Path::new("certificate"),
            Path::new("key"),
        )?;
        self.0.store(Arc::new(certified));
        Ok(())
    }

    /// The server's side of TLS. HTTP/1.1 is always offered: the API server speaks nothing else to a Service.
    pub fn server_config(self: Arc<Self>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified(
    cert: &[u8],
    key: &[u8],
    cert_path: &Path,
    key_path: &Path,
) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::BadFile(cert_path.into(), error))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| TlsError::BadFile(key_path.into(), error))?;
    let certified = CertifiedKey::new(chain, any_supported_type(&key).map_err(TlsError::Unusable)?);
    certified.keys_match().map_err(TlsError::Unusable)?;
    Ok(certified)
}

/// Signs a new leaf whenever half of the old one's life is over, until the process ends. `report` is told when
/// the newest expires, in seconds since the epoch.
pub async fn keep_fresh(
    authority: Authority,
    names: Vec<String>,
    mut expires: OffsetDateTime,
    resolver: Arc<Resolver>,
    report: impl Fn(i64),
) {
    report(expires.unix_timestamp());
    let mut tick = tokio::time::interval(RENEWAL_CHECK);
    loop {
        tick.tick().await;
        if expires - OffsetDateTime::now_utc() > LEAF_LIFETIME / 2 {
            continue;
        }
        let renewed = authority
            .issue(&names)
            .and_then(|leaf| resolver.replace(&leaf).map(|()| leaf.expires));
        match renewed {
            Ok(until) => {
                expires = until;
                report(until.unix_timestamp());
                info!(%expires, "renewed the serving certificate");
            }
            Err(error) => tracing::error!(%error, %expires, "cannot renew the serving certificate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_served_only_with_its_own_key() {
        let authority = Authority::generate().unwrap();
        let names = ["headstart.headstart.svc".to_owned(), "127.0.0.1".to_owned()];
        let (one, other) = (
            authority.issue(&names).unwrap(),
            authority.issue(&names).unwrap(),
        );
        assert!(Resolver::new(&one.cert, &one.key).is_ok());
        assert!(matches!(
            Resolver::new(&one.cert, &other.key),
            Err(TlsError::Unusable(_))
        ));
        assert!(matches!(
            Resolver::new("", &one.key),
            Err(TlsError::Unusable(_) | TlsError::BadFile(..))
        ));
    }

    #[test]
    fn an_authority_reads_back_and_signs_on() {
        let first = Authority::generate().unwrap();
        let again = Authority::from_pem(first.cert().into(), first.key().into()).unwrap();
        assert!(again.issue(&["headstart.headstart.svc".into()]).is_ok());
        assert_eq!(
            first.to_secret("ca").type_.as_deref(),
            Some("kubernetes.io/tls")
        );
    }

    #[test]
    fn nothing_that_is_printed_holds_a_key() {
        let authority = Authority::generate().unwrap();
        let leaf = authority.issue(&["headstart".into()]).unwrap();
        for shown in [format!("{authority:?}"), format!("{leaf:?}")] {
            assert!(!shown.contains("PRIVATE KEY"), "{shown}");
        }
    }
}
