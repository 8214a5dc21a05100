//! The servers that are compared, each a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart::testing::{
    Ca, CertFiles, Clock, MemoryBudget, Resolver, Shutdown, Webhook, router, serve_tls,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

// As the program has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SERVE: &str = "--serve";
/// Clock ticks in a second, in which Linux tells CPU time: a constant of its interface to programs.
const TICKS: u32 = 100;

/// One certificate for all of them.
pub(crate) struct Certificates {
    pub(crate) ca: String,
    directory: PathBuf,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (now, hour) = (Clock::system().now(), Duration::from_secs(3600));
        let ca = Ca::generate(now, hour).expect("a CA");
        let leaf = ca.issue(&["127.0.0.1".into()], now, hour).expect("a leaf");
        let directory =
            std::env::temp_dir().join(format!("headstart-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("tls.crt"), leaf.cert).expect("written");
        fs::write(directory.join("tls.key"), leaf.key).expect("written");
        Self {
            ca: ca.cert().to_owned(),
            directory,
        }
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A server that runs. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    pub(crate) async fn headstart(certificates: &Certificates) -> Self {
        let port = free_port();
        let own = std::env::current_exe().expect("this program");
        let mut command = Command::new(own);
        command
            .args([SERVE, &port.to_string()])
            .arg(&certificates.directory);
        Self::spawn("headstart", command, port).await
    }

    /// Built into `target/`, by Go's own cache in no time when it was built before.
    pub(crate) async fn controller_runtime(certificates: &Certificates) -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = root.join("target/bench/go-webhook");
        let build = Command::new("go")
            .args(["build", "-trimpath", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(root.join("tests/testbed/go-webhook"))
            .env("CGO_ENABLED", "0")
            .status()
            .map_err(|error| format!("go: {error}"))?;
        if !build.success() {
            return Err("it does not build".into());
        }
        let port = free_port();
        let mut command = Command::new(program);
        command
            .arg(format!("--port={port}"))
            .arg(format!("--cert-dir={}", certificates.directory.display()));
        Ok(Self::spawn("controller-runtime", command, port).await)
    }

    async fn spawn(name: &'static str, mut command: Command, port: u16) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("started");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{name} does not listen"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { name, port, child }
    }

    /// Returns the CPU time of the process so far, from fields 14 and 15 of `stat`. They are counted from the end of the name,
    /// which may contain any character.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat[stat.rfind(')').expect("a name")..]
            .split_whitespace()
            .collect();
        let ticks: u32 = fields[12..14]
            .iter()
            .map(|field| field.parse::<u32>().expect("ticks"))
            .sum();
        Duration::from_secs(1) * ticks / TICKS
    }

    /// Returns the resident memory of the process in MiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = self.proc("status");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .expect("VmRSS");
        let kilobytes = line.split_whitespace().nth(1).expect("a number");
        kilobytes.parse::<u64>().expect("a number") / 1024
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Returns whether the arguments ask this process to run as headstart's server.
pub(crate) fn is_to_serve(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| argument == SERVE)
}

/// Serves until it is killed.
pub(crate) fn serve(arguments: &[String]) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let [.., port, directory] = arguments else {
        panic!("{SERVE} PORT DIRECTORY");
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
    let files = CertFiles {
        cert: Path::new(directory).join("tls.crt"),
        key: Path::new(directory).join("tls.key"),
    };
    let resolver = Arc::new(Resolver::default());
    files.load(&resolver).expect("a certificate");
    let tls = resolver.server_config(None).expect("TLS");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.expect("a listener");
        let webhook = Webhook {
            reviews: Arc::default(),
            metrics: Arc::default(),
            own_namespace: "headstart".into(),
            memory_budget: MemoryBudget::default(),
            holds: None,
        };
        let shutdown = Shutdown {
            draining: Default::default(),
            closing: Default::default(),
            deadline: Duration::ZERO,
        };
        let (accepting, _) = oneshot::channel();
        serve_tls(listener, tls, router(webhook), accepting, shutdown).await;
    });
}
