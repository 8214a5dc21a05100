//! `/livez`, `/readyz` and `/metrics`, on their own thread: the kubelet gets its answer even if the webhook is busy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing::info;

use super::connections::Connections;
use super::{Port, Protocol, Shutdown};
use crate::heartbeat::Heartbeats;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;

/// Most open connections to the probe port. The kubelet opens one for each probe, Prometheus keeps one.
const MAX_CONNECTIONS: usize = 64;
/// The name of the thread.
const THREAD: &str = "probe server";
/// The format of `/metrics` (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The older format, for a caller that accepts no other. The additions of OpenMetrics are comments in it.
const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The readiness of this replica for reviews.
#[derive(Debug, Default)]
pub(crate) struct Readiness(AtomicBool);

impl Readiness {
    /// Sets the readiness, and logs a change.
    pub(crate) fn set(&self, ready: bool) {
        if self.0.swap(ready, Ordering::Relaxed) != ready {
            info!(ready, "readiness changed");
        }
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// `/livez`, `/readyz` and `/metrics`.
pub(crate) fn probes(
    readiness: Arc<Readiness>,
    heartbeats: Heartbeats,
    metrics: Arc<Metrics>,
) -> Router {
    let live = move || async move {
        let stalled = heartbeats.stalled(Instant::now());
        if stalled.is_empty() {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            let stalled = stalled.join(", ");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not alive: has not turned for 30 s: {stalled}\n"),
            )
        }
    };
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
    let metrics = move |headers: HeaderMap| async move {
        let accepted = headers.get(ACCEPT).map(|accept| accept.as_bytes());
        ([(CONTENT_TYPE, content_type(accepted))], metrics.encode())
    };
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Returns the format to answer with. Prometheus asks for OpenMetrics first, and most other callers accept anything.
fn content_type(accepted: Option<&[u8]>) -> &'static str {
    let Some(accepted) = accepted else {
        return OPEN_METRICS;
    };
    let accepted = String::from_utf8_lossy(accepted).to_ascii_lowercase();
    let types = accepted
        .split(',')
        .filter_map(|range| range.split(';').next());
    let mut types = types.map(str::trim);
    if types.any(|range| ["application/openmetrics-text", "application/*", "*/*"].contains(&range))
    {
        OPEN_METRICS
    } else {
        PLAIN_TEXT
    }
}

/// Serves plain HTTP on a thread of its own until shut down.
pub(crate) fn serve_probes(
    listener: TcpListener,
    router: Router,
    shutdown: Shutdown,
    supervisor: &Supervisor,
    heartbeats: &Heartbeats,
) -> io::Result<()> {
    let listener = listener.into_std()?;
    let heartbeat = heartbeats.begin(THREAD);
    supervisor.spawn_thread(THREAD, move || {
        let port = Port {
            listener: TcpListener::from_std(listener)?,
            protocol: Protocol::Plain,
            connections: Connections::at_most(MAX_CONNECTIONS),
            heartbeat,
        };
        Ok(port.serve(router, shutdown))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::listen;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    /// The `Accept` headers of Prometheus 3 and of Prometheus 2.
    const PROMETHEUS: [&str; 2] = [
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    ];

    #[test]
    fn who_takes_open_metrics_or_anything_gets_it() {
        for accept in PROMETHEUS
            .into_iter()
            .chain(["*/*", "text/html, Application/*;q=0.9"])
        {
            let given = content_type(Some(accept.as_bytes()));
            assert_eq!(given, OPEN_METRICS, "{accept}");
        }
        assert_eq!(content_type(None), OPEN_METRICS);
        for accept in ["text/plain; version=0.0.4", "text/html"] {
            let given = content_type(Some(accept.as_bytes()));
            assert_eq!(given, PLAIN_TEXT, "{accept}");
        }
    }

    async fn start() -> (SocketAddr, CancellationToken) {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown {
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            deadline: Duration::from_secs(5),
        };
        let closing = shutdown.closing.clone();
        let heartbeats = Heartbeats::default();
        let router = probes(Arc::default(), heartbeats.clone(), Arc::default());
        let (supervisor, _) = Supervisor::new();
        serve_probes(listener, router, shutdown, &supervisor, &heartbeats).unwrap();
        (address, closing)
    }

    async fn ask(stream: &mut TcpStream, path: &str, accept: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: headstart\r\nAccept: {accept}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        loop {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .unwrap();
                if body.len() == length.parse::<usize>().unwrap() {
                    return text.into_owned();
                }
            }
        }
    }

    #[tokio::test]
    async fn prometheus_gets_its_format_to_the_end() {
        let (address, closing) = start().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for accept in PROMETHEUS {
            let answer = ask(&mut stream, "/metrics", accept).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(
                answer.contains(&format!("content-type: {OPEN_METRICS}\r\n")),
                "{answer}"
            );
            assert!(answer.ends_with("\n# EOF\n"), "{answer}");
        }
        closing.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_named() {
        let heartbeats = Heartbeats::default();
        let router = probes(Arc::default(), heartbeats.clone(), Arc::default());
        let live = async || {
            let request = Request::get("/livez").body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            let status = answer.status();
            let body = to_bytes(answer.into_body(), 1024).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let _hangs = heartbeats.begin("watch of Pods");
        assert_eq!(live().await.0, StatusCode::OK);
        tokio::time::advance(Duration::from_secs(30)).await;
        let (status, body) = live().await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("watch of Pods"), "{body}");
    }

    /// As many connections as there is room for have had an answer and stay, and then come silent ones without end.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_probe_is_answered_whatever_connections_others_open() {
        let (address, closing) = start().await;
        let mut used = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            ask(&mut stream, "/livez", "*/*").await;
            used.push(stream);
        }
        let mut silent = Vec::new();
        for _ in 0..20 {
            for _ in 0..100 {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            let probe = async {
                let mut stream = TcpStream::connect(address).await.unwrap();
                ask(&mut stream, "/livez", "*/*").await
            };
            let answer = timeout(Duration::from_secs(1), probe).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        let mut open = 0;
        for stream in &mut silent {
            let read = timeout(Duration::from_millis(1), stream.read(&mut [0])).await;
            open += usize::from(read.is_err());
        }
        assert!(
            open <= MAX_CONNECTIONS,
            "{open} silent connections are open"
        );
        closing.cancel();
        let wait_for_end = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), wait_for_end)
            .await
            .unwrap();
    }
}
