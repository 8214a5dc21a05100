//! Accept, handshake, serve, drain: HTTPS for the API server, and plain HTTP for probes and metrics. Both speak HTTP/1.1
//! only: a connection holds one request at a time, so a bound on connections bounds requests.

mod connections;
mod probes;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use connections::{ConnectionGuard, Connections, TimeoutStream};
pub(crate) use probes::{Readiness, probes, serve_probes};

use crate::heartbeat::Heartbeat;

/// The largest number of open connections from API servers. Each keeps a handful, and one more for each review that it waits
/// for. A process may have 1,024 open files by default.
pub(crate) const MAX_CONNECTIONS: usize = 512;
/// The limit for a TLS handshake: the same as in Go's server. On a starved machine the API server's own handshake may be slow.
/// A client that never finishes its handshake holds a place that is the first to be given away.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of bytes read from a connection at once: the size of a TLS record. rustls alone asks for 4 KiB, and so a review
/// of 16 KiB would take five system calls.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// The limit for one connection's bytes in HTTP/1.1's buffer, and so for the head of a request. A body that fits is not
/// copied.
const READ_BUFFER: usize = 64 * 1024;
/// The name of the loop that accepts connections from API servers.
pub(crate) const ACCEPT_LOOP: &str = "webhook server";
/// The pause after a failed accept. A lack of file descriptors ends only when something closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The first byte of a TLS connection: the content type of a handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// The number of connections that may wait to be accepted. Without room, a client waits for a second before it retries, and a
/// probe fails. It is Linux's default limit (`net.core.somaxconn`), and 32 times the default here.
const BACKLOG: u32 = 4096;

/// Listens at an address.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A new process can listen right after the old one has ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The signals and the limit of a shutdown.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Cancelled to begin it: requests are still answered, each with `Connection: close`, because the API server
    /// keeps using pooled connections to a pod that is going (kubernetes#127335).
    pub draining: CancellationToken,
    /// Cancelled to end it: no new connections, and idle ones are closed.
    pub closing: CancellationToken,
    /// The limit for requests in flight after that.
    pub deadline: Duration,
}

/// Serves HTTPS until shut down; reports through `accepting` when connections are accepted.
pub(crate) async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    accepting: oneshot::Sender<()>,
    shutdown: Shutdown,
    heartbeat: Heartbeat,
) {
    // The receiver may be dropped already.
    let _ = accepting.send(());
    let protocol = Protocol::Tls(TlsAcceptor::from(tls));
    let connections = Connections::at_most(MAX_CONNECTIONS);
    let port = Port {
        listener,
        protocol,
        connections,
        heartbeat,
    };
    port.serve(router, shutdown).await;
}

/// The protocol of a port below HTTP.
#[derive(Clone)]
enum Protocol {
    Plain,
    Tls(TlsAcceptor),
}

/// A port that is served.
struct Port {
    listener: TcpListener,
    protocol: Protocol,
    connections: Connections,
    /// Records that connections are accepted.
    heartbeat: Heartbeat,
}

impl Port {
    /// Serves until shut down.
    async fn serve(self, router: Router, shutdown: Shutdown) {
        let Self {
            listener,
            protocol,
            connections,
            heartbeat,
        } = self;
        let Shutdown {
            draining,
            closing,
            deadline,
        } = shutdown;
        let graceful = Arc::new(GracefulShutdown::new());
        let connections = Arc::new(connections);
        let tasks = TaskTracker::new();
        // Read for each request; a token would take a lock that all connections share.
        let last = Arc::new(AtomicBool::new(false));
        loop {
            let accepted = tokio::select! {
                biased;
                () = closing.cancelled() => break,
                () = draining.cancelled(), if !last.load(Ordering::Relaxed) => {
                    last.store(true, Ordering::Relaxed);
                    continue;
                }
                accepted = heartbeat.during(accept(&listener)) => accepted,
            };
            let Some((stream, peer)) = accepted else {
                continue;
            };
            let guard = connections.register();
            let state = guard.state.clone();
            let connection = Connection {
                guard,
                peer,
                router: router.clone(),
                close_after_response: last.clone(),
                watcher: graceful.watcher(),
            };
            let task = tasks.spawn(connection.serve(stream, protocol.clone(), closing.clone()));
            state.set_task(task.abort_handle());
            // Lets a request that has arrived be answered before the next connection may take its place.
            tokio::task::yield_now().await;
        }
        drop((listener, heartbeat));
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
}

/// The data that serving one connection needs.
struct Connection {
    guard: ConnectionGuard,
    peer: SocketAddr,
    router: Router,
    /// True if each request is answered as the last of its connection.
    close_after_response: Arc<AtomicBool>,
    watcher: Watcher,
}

impl Connection {
    async fn serve(self, stream: TcpStream, protocol: Protocol, closing: CancellationToken) {
        let acceptor = match protocol {
            Protocol::Plain => return self.answer(stream).await,
            Protocol::Tls(acceptor) => acceptor,
        };
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
        let peer = self.peer;
        match stream {
            Ok(Ok(Some(stream))) => self.answer(stream).await,
            Ok(Ok(None)) => info!(%peer, "plain HTTP on the HTTPS port"),
            Ok(Err(error)) => info!(%peer, %error, "TLS handshake failed"),
            Err(_) => info!(%peer, "TLS handshake timed out"),
        }
    }

    /// Answers one request after another.
    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self {
            guard,
            peer,
            router,
            close_after_response: last,
            watcher,
        } = self;
        let state = &guard.state;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let answering = state.begin();
            let answer = router.clone().oneshot(request.map(Body::new));
            let last = last.clone();
            async move {
                let mut response = answer.await?;
                if last.load(Ordering::Relaxed) {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                drop(answering);
                Ok::<_, Infallible>(response)
            }
        });
        let io = TokioIo::new(TimeoutStream::new(stream, guard.state.clone()));
        let mut builder = http1::Builder::new();
        // TimeoutStream keeps the time of heads: hyper's own also runs between requests.
        builder.header_read_timeout(None).max_buf_size(READ_BUFFER);
        let ended = watcher.watch(builder.serve_connection(io, service)).await;
        if let Err(error) = ended {
            debug!(%peer, %error, "connection ended");
        }
    }
}

/// Returns the next connection.
async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            // An answer is one small write; a delay for more data would cost 40 ms.
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

/// Explains the error in plain HTTP, as Go's server does, where TLS could only break off.
async fn refuse_plain_http(mut stream: TcpStream) -> io::Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
        This port speaks HTTPS, and the request was HTTP.\n";
    // Reads the request first: closing with unread bytes resets the connection and loses the answer.
    let mut request = [0_u8; 4096];
    let _ = stream.try_read(&mut request);
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}
