//! Plays the Service: new connections go to replicas that are ready, open ones stay where they are.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::admission::replica::{Replica, is_ready};

/// The time between two looks at the readiness of the replicas, like the period of the kubelet's probe.
const PERIOD: Duration = Duration::from_millis(200);

/// Forwards connections until it is dropped.
pub(crate) struct Forwarder {
    pub(crate) port: u16,
    /// Port and probes' port of each replica. A std lock: held to copy or change the list.
    replicas: Arc<Mutex<Vec<(u16, u16)>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Forwarder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let replicas = Arc::new(Mutex::new(Vec::new()));
        let ready = Arc::new(Mutex::new(Vec::new()));
        let probing = tokio::spawn({
            let (replicas, ready) = (replicas.clone(), ready.clone());
            async move {
                loop {
                    let all: Vec<(u16, u16)> = replicas.lock().unwrap().clone();
                    // All at once, as their kubelets would: none waits for another.
                    let probe = async |(port, probes)| is_ready(probes).await.then_some(port);
                    let now = join_all(all.into_iter().map(probe)).await;
                    *ready.lock().unwrap() = now.into_iter().flatten().collect();
                    tokio::time::sleep(PERIOD).await;
                }
            }
        });
        let forwarding = tokio::spawn(async move {
            for turn in 0.. {
                let (mut near, _) = listener.accept().await.unwrap();
                let target = {
                    let ready = ready.lock().unwrap();
                    (!ready.is_empty()).then(|| ready[turn % ready.len()])
                };
                tokio::spawn(async move {
                    // Without one that is ready the connection is refused, as by a Service without endpoints.
                    if let Some(port) = target
                        && let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await
                    {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self {
            port,
            replicas,
            tasks: vec![probing, forwarding],
        }
    }

    pub(crate) fn add(&self, replica: &Replica) {
        let mut replicas = self.replicas.lock().unwrap();
        replicas.push((replica.port, replica.probes));
    }

    pub(crate) fn remove(&self, replica: &Replica) {
        let mut replicas = self.replicas.lock().unwrap();
        replicas.retain(|(port, _)| *port != replica.port);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
