//! Calls like an API server's, to see whether others' harm them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::admission::client::{Tls, is_allowed, post, review};
use crate::admission::installation::until;

/// Each now and then is on a new connection.
const CALLS_ON_ONE: usize = 10;

/// Calls like an API server's, one after another, by a thread that does nothing else.
pub(crate) struct Healthy {
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Healthy {
    pub(crate) fn start(tls: &Tls, port: u16) -> Self {
        let stop = CancellationToken::new();
        let answered = Arc::new(AtomicUsize::new(0));
        let calls = {
            let (tls, stopped, answered) = (tls.clone(), stop.clone(), answered.clone());
            async move {
                let body = review("healthy", 4096);
                let mut latencies = Vec::new();
                let mut stream = tls.connect(port).await.unwrap();
                while !stopped.is_cancelled() || latencies.is_empty() {
                    let begun = Instant::now();
                    if latencies.len() % CALLS_ON_ONE == CALLS_ON_ONE - 1 {
                        stream = tls.connect(port).await.unwrap();
                    }
                    let answer = post(&mut stream, "/mutate?timeout=2s", &body).await;
                    assert!(is_allowed(&answer), "{answer:?}");
                    latencies.push(begun.elapsed());
                    answered.store(latencies.len(), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                latencies
            }
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let thread = std::thread::spawn(move || runtime.block_on(calls));
        Self {
            stop,
            answered,
            thread,
        }
    }

    /// Waits until a connection that is made from now on has been answered.
    pub(crate) async fn connects(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        until("a healthy call", async || {
            assert!(!self.thread.is_finished(), "a healthy call failed");
            self.answered.load(Ordering::Relaxed) > before + CALLS_ON_ONE
        })
        .await;
    }

    /// Panics if a call was not answered; this percentile of the latencies.
    pub(crate) async fn stop(self, what: &str, percentile: usize) -> Duration {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(|| self.thread.join());
        let mut latencies = joined.await.unwrap().unwrap();
        latencies.sort();
        let (p50, p99) = (
            latencies[latencies.len() / 2],
            latencies[latencies.len() * 99 / 100],
        );
        println!(
            "{what}: {} healthy calls, p50 {p50:.1?}, p99 {p99:.1?}",
            latencies.len()
        );
        latencies[latencies.len() * percentile / 100]
    }
}
