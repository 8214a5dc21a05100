//! Accept, handshake, serve, drain: HTTPS for the API server, and plain HTTP for probes and metrics.

mod connections;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use connections::{Connections, Place, Watched};

/// How long a TLS handshake may take. As long as Go's server gives it: on a starved machine the API server's own may be
/// slow, and one that does not come takes a place that is the first to be given away.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of a connection at a time: as much as TLS puts into one record. rustls alone asks for 4 KiB, and so a review
/// of 16 KiB took five system calls.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// Most of one connection's bytes that wait in HTTP/1.1's buffer; also the longest head of a request.
const READ_BUFFER: usize = 64 * 1024;
/// The same for HTTP/2: of one request, and of all of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Most requests at once on one connection, as Go's server has it.
const MAX_STREAMS: u32 = 250;
/// Pause after a failed accept: out of file descriptors passes only when something closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a TLS connection begins with: the content type of a handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// How a shutdown goes.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Cancelled to begin it: requests are still answered, each with `Connection: close`, because the API server
    /// keeps using pooled connections to a pod that is going (kubernetes#127335).
    pub draining: CancellationToken,
    /// Cancelled to end it: no new connections, and idle ones are closed.
    pub closing: CancellationToken,
    /// How long requests in flight may then take.
    pub deadline: Duration,
}

/// Serves HTTPS until shut down; says through `accepting` when it does.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    accepting: oneshot::Sender<()>,
    shutdown: Shutdown,
) {
    let Shutdown {
        draining,
        closing,
        deadline,
    } = shutdown;
    let acceptor = TlsAcceptor::from(tls);
    let graceful = Arc::new(GracefulShutdown::new());
    let connections = Arc::new(Connections::default());
    let tasks = TaskTracker::new();
    // Whoever wanted to know may have gone.
    let _ = accepting.send(());
    // Looked at for each request, where a token takes a lock that all connections share.
    let last = Arc::new(AtomicBool::new(false));
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            () = draining.cancelled(), if !last.load(Ordering::Relaxed) => {
                last.store(true, Ordering::Relaxed);
                continue;
            }
            accepted = accept(&listener) => accepted,
        };
        let Some((stream, peer)) = accepted else {
            continue;
        };
        let place = connections.enter();
        let slot = place.slot.clone();
        let connection = Connection {
            place,
            peer,
            router: router.clone(),
            last: last.clone(),
            watcher: graceful.watcher(),
        };
        let task = tasks.spawn(connection.serve(stream, acceptor.clone(), closing.clone()));
        slot.served_by(task.abort_handle());
    }
    drop(listener);
    tasks.close();
    if let Some(graceful) = Arc::into_inner(graceful)
        && timeout(deadline, async {
            tokio::join!(graceful.shutdown(), tasks.wait())
        })
        .await
        .is_err()
    {
        warn!("requests were still in flight at the deadline");
    }
}

/// What serving one connection takes.
struct Connection {
    place: Place,
    peer: SocketAddr,
    router: Router,
    /// Whether requests are answered as the last of their connections.
    last: Arc<AtomicBool>,
    watcher: Watcher,
}

impl Connection {
    async fn serve(self, stream: TcpStream, acceptor: TlsAcceptor, closing: CancellationToken) {
        let Self {
            place,
            peer,
            router,
            last,
            watcher,
        } = self;
        let handshake = async {
            if speaks_plain_http(&stream).await {
                return refuse_plain_http(stream).await.map(|()| None);
            }
            let stream = BufReader::with_capacity(RECEIVE_BUFFER, stream);
            acceptor.accept(stream).await.map(Some)
        };
        let stream = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            stream = timeout(HANDSHAKE_TIMEOUT, handshake) => stream,
        };
        let stream = match stream {
            Ok(Ok(Some(stream))) => stream,
            Ok(Ok(None)) => return info!(%peer, "plain HTTP on the HTTPS port"),
            Ok(Err(error)) => return info!(%peer, %error, "TLS handshake failed"),
            Err(_) => return info!(%peer, "TLS handshake timed out"),
        };
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn({
            let slot = place.slot.clone();
            move |request: hyper::Request<Incoming>| {
                let answering = slot.begin();
                let answer = router.clone().oneshot(request.map(Body::new));
                let last = last.clone();
                async move {
                    let mut response = answer.await?;
                    // HTTP/2 forbids the header, and has GOAWAY instead.
                    if !http2 && last.load(Ordering::Relaxed) {
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(CONNECTION, close);
                    }
                    drop(answering);
                    Ok::<_, Infallible>(response)
                }
            }
        });
        let io = TokioIo::new(Watched::new(stream, place.slot.clone(), !http2));
        let ended = if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_concurrent_streams(MAX_STREAMS);
            watcher.watch(builder.serve_connection(io, service)).await
        } else {
            let mut builder = http1::Builder::new();
            // Watched keeps the time of heads: hyper's own also runs between requests.
            builder.header_read_timeout(None).max_buf_size(READ_BUFFER);
            watcher.watch(builder.serve_connection(io, service)).await
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "connection ended");
        }
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are one small write; waiting for more of it costs 40 ms.
            let _ = stream.set_nodelay(true);
            Some((stream, peer))
        }
        Err(error) => {
            warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn speaks_plain_http(stream: &TcpStream) -> bool {
    let mut first = [0_u8; 1];
    matches!(stream.peek(&mut first).await, Ok(1))
        && first[0] != TLS_HANDSHAKE
        && first[0].is_ascii_uppercase()
}

/// Says what is wrong in words, as Go's server does, where TLS could only break off.
async fn refuse_plain_http(mut stream: TcpStream) -> std::io::Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
        This port speaks HTTPS, and the request was HTTP.\n";
    // What was sent is read first: closing with unread bytes resets the connection and loses the answer.
    let mut request = [0_u8; 4096];
    let _ = stream.try_read(&mut request);
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

/// Whether this replica should be sent reviews.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// Sets it.
    pub fn set(&self, ready: bool) {
        if self.0.swap(ready, Ordering::Relaxed) != ready {
            info!(ready, "readiness changed");
        }
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn probes(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Router {
    let ready = move || async move {
        if readiness.get() {
            (StatusCode::OK, "ok\n")
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready: caches, certificate or registration are not in place\n",
            )
        }
    };
    let metrics = move || async move {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        (
            [(axum::http::header::CONTENT_TYPE, content_type)],
            metrics.encode(),
        )
            .into_response()
    };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Serves plain HTTP until `end`.
pub async fn serve_plain(
    listener: TcpListener,
    router: Router,
    end: impl Future<Output = ()> + Send + 'static,
) {
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(end)
        .await
    {
        warn!(%error, "the server for probes and metrics failed");
    }
}
