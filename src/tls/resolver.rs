//! Serves the newest certificate to every new connection. Open connections keep theirs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::{LeafCert, TlsError};

/// The serving certificate, once there is one.
#[derive(Debug, Default)]
pub struct Resolver(ArcSwapOption<CertifiedKey>);

impl Resolver {
    /// Serves this leaf from now on.
    pub fn serve(&self, leaf: &LeafCert) -> Result<(), TlsError> {
        let LeafCert { cert, key, .. } = leaf;
        let (here, there) = (Path::new("certificate"), Path::new("key"));
        self.serve_pem((here, cert.as_bytes()), (there, key.as_bytes()))
    }

    /// Serves this certificate and key from now on. The paths name them in errors.
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

    /// Returns the server's TLS configuration. With `client_ca`, a file of CA certificates, only clients with a certificate of
    /// one of these CAs are served.
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
                    .map_err(|error| TlsError::ClientCa(path.clone(), error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(self);
        // The API server uses only HTTP/1.1 for a Service, and falls back to it for a URL. With HTTP/2, one connection could
        // hold hundreds of unfinished bodies.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
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
    use crate::tls::Ca;
    use std::time::Duration;
    use time::OffsetDateTime;

    #[test]
    fn a_leaf_is_served_only_with_its_own_key() {
        let (now, hour) = (OffsetDateTime::now_utc(), Duration::from_secs(3600));
        let ca = Ca::generate(now, hour).unwrap();
        let issue = || ca.issue(&["127.0.0.1".to_owned()], now, hour).unwrap();
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

    /// Tests the protocols that the API server offers to a URL, and the answer to a client with HTTP/2 only.
    #[test]
    fn http_1_1_is_chosen_and_http_2_refused() {
        use rustls::{ClientConfig, ClientConnection, ServerConnection};

        let _ = rustls::crypto::ring::default_provider().install_default();
        let (now, hour) = (OffsetDateTime::now_utc(), Duration::from_secs(3600));
        let ca = Ca::generate(now, hour).unwrap();
        let leaf = ca.issue(&["127.0.0.1".to_owned()], now, hour).unwrap();
        let resolver = Arc::new(Resolver::default());
        resolver.serve(&leaf).unwrap();
        let config = resolver.server_config(None).unwrap();
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.cert().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let chosen = |offered: &[&str]| {
            let mut client = ClientConfig::builder()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            client.alpn_protocols = offered
                .iter()
                .map(|name| name.as_bytes().to_vec())
                .collect();
            let name = "127.0.0.1".try_into().unwrap();
            let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
            let mut server = ServerConnection::new(config.clone()).unwrap();
            while client.is_handshaking() || server.is_handshaking() {
                let mut wire = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut wire).unwrap();
                }
                server.read_tls(&mut wire.as_slice()).unwrap();
                server.process_new_packets()?;
                let mut wire = Vec::new();
                while server.wants_write() {
                    server.write_tls(&mut wire).unwrap();
                }
                client.read_tls(&mut wire.as_slice()).unwrap();
                client.process_new_packets()?;
            }
            Ok::<_, rustls::Error>(server.alpn_protocol().map(<[u8]>::to_vec))
        };
        assert_eq!(chosen(&["h2", "http/1.1"]).unwrap().unwrap(), b"http/1.1");
        assert_eq!(chosen(&["http/1.1"]).unwrap().unwrap(), b"http/1.1");
        assert_eq!(chosen(&[]).unwrap(), None);
        assert_eq!(chosen(&["h2"]), Err(rustls::Error::NoApplicationProtocol));
    }
}
