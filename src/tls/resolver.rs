//! Serves the newest certificate to every new connection; open ones keep what they began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::{Leaf, TlsError};

/// The certificate that is served, once there is one.
#[derive(Debug, Default)]
pub struct Resolver(ArcSwapOption<CertifiedKey>);

impl Resolver {
    /// Serves this leaf from now on.
    pub fn serve(&self, leaf: &Leaf) -> Result<(), TlsError> {
        let Leaf { cert, key, .. } = leaf;
        let (here, there) = (Path::new("certificate"), Path::new("key"));
        self.serve_pem((here, cert.as_bytes()), (there, key.as_bytes()))
    }

    /// Serves this certificate and key from now on; each comes with the name it is known by in an error.
    pub(super) fn serve_pem(
        &self,
        cert: (&Path, &[u8]),
        key: (&Path, &[u8]),
    ) -> Result<(), TlsError> {
        let bad = |path: &Path| {
            let path = path.to_owned();
            move |error| TlsError::BadFile(path, error)
        };
        let chain = CertificateDer::pem_slice_iter(cert.1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(bad(cert.0))?;
        let key = PrivateKeyDer::from_pem_slice(key.1).map_err(bad(key.0))?;
        let key = any_supported_type(&key).map_err(TlsError::Unusable)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(TlsError::Unusable)?;
        self.0.store(Some(Arc::new(certified)));
        Ok(())
    }

    /// The server's side of TLS. With `client_ca`, a file of CA certificates, only clients that show a certificate
    /// of one of them are served.
    pub fn server_config(
        self: Arc<Self>,
        client_ca: Option<&PathBuf>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder();
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let bad = |error| TlsError::BadFile(path.clone(), error);
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(path).map_err(bad)? {
                    roots
                        .add(certificate.map_err(bad)?)
                        .map_err(TlsError::Unusable)?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                    .build()
                    .map_err(|error| TlsError::ClientAuthority(path.clone(), error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(self);
        // HTTP/1.1 always: the API server speaks nothing else to a Service.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Authority;
    use std::time::Duration;
    use time::OffsetDateTime;

    #[test]
    fn a_leaf_is_served_only_with_its_own_key() {
        let (now, hour) = (OffsetDateTime::now_utc(), Duration::from_secs(3600));
        let authority = Authority::generate(now, hour).unwrap();
        let issue = || {
            authority
                .issue(&["127.0.0.1".to_owned()], now, hour)
                .unwrap()
        };
        let (mut one, other) = (issue(), issue());
        let resolver = Resolver::default();
        resolver.serve(&one).unwrap();
        let served = resolver.0.load_full().unwrap();
        one.key = other.key;
        assert!(matches!(resolver.serve(&one), Err(TlsError::Unusable(_))));
        one.cert = String::new();
        assert!(resolver.serve(&one).is_err());
        assert!(
            Arc::ptr_eq(&served, &resolver.0.load_full().unwrap()),
            "a bad one does not replace a good one"
        );
    }
}
