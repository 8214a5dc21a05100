//! The load generator: HTTP/1.1 by hand, so that it costs as little as it can.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use testbed::statistics::median;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One kind of load: the size of the reviews, the number of connections and the pace.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) kilobytes: usize,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
}

/// The time at which a connection sends its next request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as the last request was answered.
    AsFastAsPossible,
    /// As soon as the last request was answered, on a new connection.
    NewConnections,
    /// At a fixed rate: requests per second over all connections.
    Steady(u32),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pace {
            Pace::AsFastAsPossible => write!(f, "{}", self.connections),
            Pace::NewConnections => write!(f, "new, {} at a time", self.connections),
            Pace::Steady(rate) => write!(f, "{}, {rate}/s", self.connections),
        }
    }
}

/// The measurements of some turns.
#[derive(Default)]
pub(crate) struct Measured {
    latencies: Vec<Duration>,
    turns: Vec<Turn>,
}

/// Requests per second of a turn, and of the server's CPU time in it.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) per_second: f64,
    pub(crate) per_cpu_second: f64,
}

impl Measured {
    pub(crate) fn add(&mut self, (latencies, time): (Vec<Duration>, Duration), cpu: Duration) {
        let requests = latencies.len() as f64;
        self.turns.push(Turn {
            per_second: requests / time.as_secs_f64(),
            per_cpu_second: requests / cpu.as_secs_f64(),
        });
        self.latencies.extend(latencies);
        self.latencies.sort_unstable();
    }

    /// The median of a figure over all turns.
    pub(crate) fn median(&self, figure: fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(figure).collect())
    }

    /// The median over the rounds of this server's figure divided by the other server's. A disturbance of a round affects both
    /// servers.
    pub(crate) fn ratio(&self, other: &Self, figure: fn(&Turn) -> f64) -> f64 {
        let rounds = self.turns.iter().zip(&other.turns);
        median(
            rounds
                .map(|(own, other)| figure(own) / figure(other))
                .collect(),
        )
    }

    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.latencies[(self.latencies.len() - 1) * percent / 100]
    }
}

pub(crate) struct Load {
    connector: TlsConnector,
}

impl Load {
    pub(crate) fn new(ca: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM");
        roots.add(certificate).expect("a CA");
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Each new connection costs a whole handshake.
        config.resumption = rustls::client::Resumption::disabled();
        Self {
            connector: TlsConnector::from(Arc::new(config)),
        }
    }

    async fn connect(connector: &TlsConnector, port: u16) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("a server");
        stream.set_nodelay(true).expect("nodelay");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        connector.connect(name, stream).await.expect("a handshake")
    }

    /// Returns the latencies and the duration of the turn. Kept connections are opened before it.
    pub(crate) async fn run(
        &self,
        port: u16,
        cell: &Cell,
        turn: Duration,
    ) -> (Vec<Duration>, Duration) {
        let mut tasks = JoinSet::new();
        let ready = Arc::new(tokio::sync::Barrier::new(cell.connections + 1));
        for number in 0..cell.connections {
            let (connector, ready) = (self.connector.clone(), ready.clone());
            let Cell {
                kilobytes,
                connections,
                pace,
            } = *cell;
            tasks.spawn(async move {
                let request = request(number, kilobytes);
                let mut buffer = Vec::with_capacity(256 * 1024);
                let mut stream = Self::connect(&connector, port).await;
                exchange(&mut stream, &request, &mut buffer).await;
                ready.wait().await;
                let begun = Instant::now();
                let mut latencies = Vec::new();
                let mut due = begun;
                if let Pace::Steady(rate) = pace {
                    due += Duration::from_secs(1) * u32::try_from(number).unwrap_or(0) / rate;
                }
                while begun.elapsed() < turn {
                    if let Pace::Steady(rate) = pace {
                        tokio::time::sleep_until(due.into()).await;
                        due +=
                            Duration::from_secs(1) * u32::try_from(connections).unwrap_or(1) / rate;
                    }
                    let sent = Instant::now();
                    if matches!(pace, Pace::NewConnections) {
                        stream = Self::connect(&connector, port).await;
                    }
                    exchange(&mut stream, &request, &mut buffer).await;
                    latencies.push(sent.elapsed());
                }
                latencies
            });
        }
        ready.wait().await;
        let begun = Instant::now();
        let latencies = tasks.join_all().await.concat();
        (latencies, begun.elapsed())
    }
}

/// Sends the request and reads the whole answer.
async fn exchange(stream: &mut TlsStream<TcpStream>, request: &[u8], buffer: &mut Vec<u8>) {
    stream.write_all(request).await.expect("sent");
    buffer.clear();
    loop {
        assert_ne!(stream.read_buf(buffer).await.expect("an answer"), 0);
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .expect("a length");
            let whole = end + 4 + length.trim().parse::<usize>().expect("a number");
            while buffer.len() < whole {
                assert_ne!(stream.read_buf(buffer).await.expect("the rest"), 0);
            }
            return;
        }
    }
}

/// As the API server sends it: a Deployment whose size is in its environment, as that of large ones is.
fn request(number: usize, kilobytes: usize) -> Vec<u8> {
    let variable =
        |index: usize| json!({"name": format!("SETTING_{index}"), "value": "x".repeat(40)});
    let environment: Vec<Value> = (0..kilobytes * 1024 / 76).map(variable).collect();
    let name = format!("web-{number}");
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "ghcr.io/acme/web:v1", "env": environment}]},
            },
        },
    });
    let body = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "name": name, "namespace": "shop", "operation": "CREATE",
            "userInfo": {"username": "admin"}, "object": object, "oldObject": null, "dryRun": false,
        },
    })
    .to_string();
    let head = format!(
        "POST /mutate?timeout=2s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}
