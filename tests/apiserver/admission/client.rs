//! A small HTTP/1.1 client: one that can also misbehave, and leaves no doubt about what is on the wire.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WantsClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A local server that does not answer in this time does not answer, however busy the machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Trusts these certificates (PEM) and no others.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    pub(crate) fn trusting(bundle: &str) -> Self {
        let config = roots(bundle).with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// And shows this certificate, with its key.
    pub(crate) fn presenting(bundle: &str, (cert, key): &(String, String)) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = roots(bundle).with_client_auth_cert(chain, key).unwrap();
        Self(TlsConnector::from(Arc::new(config)))
    }

    pub(crate) async fn connect(&self, port: u16) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        timeout(self.0.connect(name, stream)).await
    }
}

fn roots(bundle: &str) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    ClientConfig::builder().with_root_certificates(roots)
}

/// Sends one POST and reads its answer.
pub(crate) async fn post<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    path: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    post_as(stream, path, "application/json", body).await
}

/// As [`post`], as another content type.
pub(crate) async fn post_as<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    path: &str,
    content_type: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let head = head_of_post(path, body).replace("application/json", content_type);
    timeout(async {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let request = [head, body.to_owned()].concat();
        let write = async {
            // An answer that comes before the whole body was sent ends the sending.
            let _ = writing.write_all(request.as_bytes()).await;
            let _ = writing.flush().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            answer = answer(&mut reading) => answer,
            () = write => Err(io::ErrorKind::Other.into()),
        }
    })
    .await
}

/// Sends one POST; whether the answer says that the connection is to be closed.
pub(crate) async fn is_told_to_close<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> io::Result<bool> {
    let body = review("closing", 10);
    stream
        .write_all(head_of_post("/mutate", &body).as_bytes())
        .await?;
    stream.write_all(body.as_bytes()).await?;
    stream.flush().await?;
    let mut received = vec![0; 4096];
    let length = timeout(stream.read(&mut received)).await?;
    let answer = String::from_utf8_lossy(&received[..length]).to_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    Ok(answer.contains("\r\nconnection: close\r\n"))
}

fn head_of_post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: headstart\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
}

/// A GET without TLS, on a connection of its own.
pub(crate) async fn plain_get(port: u16, path: &str) -> io::Result<(u16, String)> {
    timeout(async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: headstart\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        answer(&mut stream).await
    })
    .await
}

/// Reads one answer with a Content-Length, as all of headstart's have.
async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(u16, String)> {
    let mut received = Vec::new();
    loop {
        if let Some((status, length, begin)) = head(&received)
            && received.len() >= begin + length
        {
            let body = String::from_utf8_lossy(&received[begin..begin + length]).into_owned();
            return Ok((status, body));
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Status, length of the body, and where it begins.
fn head(received: &[u8]) -> Option<(u16, usize, usize)> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..end]).ok()?.to_lowercase();
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some((status, length.unwrap_or(0), end + 4))
}

async fn timeout<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(TIMEOUT, work).await?
}

/// A review of a new Deployment, in the order that the API server writes it, padded to about this many bytes.
pub(crate) fn review(name: &str, bytes: usize) -> String {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "annotations": {"padding": "x".repeat(bytes)}},
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "app:1"}]}}},
    });
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind":{{"group":"apps","version":"v1","kind":"Deployment"}},"name":"{name}","namespace":"shop","operation":"CREATE",
        "object":{object},"oldObject":null,"dryRun":false}}}}"#
    )
}

/// Returns whether an answer allows that review.
pub(crate) fn is_allowed(answer: &io::Result<(u16, String)>) -> bool {
    let Ok((200, body)) = answer else {
        return false;
    };
    let body: Value = serde_json::from_str(body).unwrap();
    body["response"]["allowed"] == true
        && body["response"]["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
}
