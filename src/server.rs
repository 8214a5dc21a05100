//! Accept, handshake, serve, drain: HTTPS for the API server, and plain HTTP for probes and metrics.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::timeout::TimeoutLayer;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;

/// Most open connections. An API server keeps a handful; the bound is for everyone else.
const MAX_CONNECTIONS: usize = 1024;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may wait for the headers of its next request. The API server closes what is idle for 90 s
/// (Go's default): it must be the one that closes, or a request meets a closed connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a whole request may take: the API server gives up after 30 s at the latest.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
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

/// Serves HTTPS until shut down.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    shutdown: Shutdown,
) {
    let Shutdown {
        draining,
        closing,
        deadline,
    } = shutdown;
    let router = router
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            REQUEST_TIMEOUT,
        ))
        .layer(axum::middleware::from_fn(
            move |request: Request, next: Next| close_while(draining.clone(), request, next),
        ));
    let acceptor = TlsAcceptor::from(tls);
    let graceful = Arc::new(GracefulShutdown::new());
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else {
            continue;
        };
        let (acceptor, router, closing) = (acceptor.clone(), router.clone(), closing.clone());
        let watcher = graceful.watcher();
        connections.spawn(async move {
            let _permit = permit;
            let handshake = async {
                if speaks_plain_http(&stream).await {
                    return refuse_plain_http(stream).await.map(|()| None);
                }
                acceptor.accept(stream).await.map(Some)
            };
            let stream = tokio::select! {
                biased;
                () = closing.cancelled() => return,
                stream = timeout(HANDSHAKE_TIMEOUT, handshake) => stream,
            };
            let stream = match stream {
                Ok(Ok(Some(stream))) => stream,
                Ok(Ok(None)) => {
                    info!(%peer, "plain HTTP on the HTTPS port");
                    return;
                }
                Ok(Err(error)) => {
                    info!(%peer, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    info!(%peer, "TLS handshake timed out");
                    return;
                }
            };
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE_TIMEOUT);
            let service = TowerToHyperService::new(router);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                debug!(%peer, %error, "connection ended");
            }
        });
    }
    drop(listener);
    connections.close();
    if let Some(graceful) = Arc::into_inner(graceful)
        && timeout(deadline, async {
            tokio::join!(graceful.shutdown(), connections.wait())
        })
        .await
        .is_err()
    {
        warn!("requests were still in flight at the deadline");
    }
}

type Accepted = Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)>;

/// The next connection, once there is room for it: until then it waits in the kernel's backlog.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Accepted {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are one small write; waiting for more of it costs 40 ms.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
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

async fn close_while(draining: CancellationToken, request: Request, next: Next) -> Response {
    // HTTP/2 forbids the header, and has GOAWAY instead.
    let http1 = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if http1 && draining.is_cancelled() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
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
