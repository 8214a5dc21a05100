//! `headstart serve`: puts the rooms together, and takes them apart in the right order.

mod log;
mod process;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::jiff::SignedDuration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::cluster::{self, Cluster};
use crate::config::{
    BudgetConfig, Config, InstallationConfig, ListenConfig, PodConfig, ProcessConfig,
    PullMethodFlag, ScopeConfig, TlsConfig,
};
use crate::domain::pod::PodSettings;
use crate::domain::self_test::Address;
use crate::hold::{self, Gate};
use crate::leader::Candidate;
use crate::metrics::Metrics;
use crate::puller::Puller;
use crate::queue::Hints;
use crate::registration::Registration;
use crate::report::Reporter;
use crate::self_test::SelfTest;
use crate::server::{self, Readiness, Shutdown, probes, serve_probes, serve_tls};
use crate::tls::Resolver;
use crate::tls::authority::Validity;
use crate::tls::files::Files;
use crate::tls::keeper::{self, Keeper};
use crate::webhook::{Budget, Webhook, router};
use crate::whereabouts::Whereabouts;
use crate::worker::{Limits, Policy, Worker};
pub(crate) use process::client;
use process::{Signals, counted_client, random_identity};

/// How long answers in flight may take once no new ones are accepted.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Serves until told to stop.
pub fn run(config: Config) -> Result<()> {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        bail!("another TLS provider was installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<()> {
    let lifetimes = config.tls.lifetimes().map_err(anyhow::Error::msg)?;
    let mut holds = config.holds.hold_limits().map_err(anyhow::Error::msg)?;
    let Config {
        listen: ListenConfig {
            listen,
            probe_listen,
        },
        installation:
            InstallationConfig {
                namespace,
                pod_name,
                deployment,
                service,
            },
        tls:
            TlsConfig {
                tls_san,
                ca_secret,
                tls_cert,
                tls_key,
                client_ca,
                webhook_configuration,
                ..
            },
        pods:
            PodConfig {
                noop_image,
                require_policies,
                pull_method,
                pin,
                service_account,
                priority_class,
                retain,
                pod_deadline,
            },
        budgets:
            BudgetConfig {
                max_writes,
                max_pulling_nodes,
                max_pulls_per_registry,
                pods_per_node,
            },
        holds: _,
        scope:
            ScopeConfig {
                refresh,
                trust_node_images,
                new_node_deployments,
                namespaces,
            },
        process:
            ProcessConfig {
                lease_duration,
                drain,
                kubeconfig,
                log_format,
            },
    } = config;
    let log = log::start(log_format);
    let mut signals = Signals::install()?;

    // Check, bind, spawn: what is wrong fails the start, before anything else has begun.
    let metrics = Arc::new(Metrics::default());
    let client = counted_client(kubeconfig, &metrics).await?;
    let identity = pod_name.clone().unwrap_or_else(random_identity);
    let Some(noop_image) = noop_image.filter(|image| !image.is_empty()) else {
        bail!(
            "--noop-image is not set: give the image of headstart that prefetch pods run, or set HEADSTART_NOOP_IMAGE, \
             which the manifests do"
        );
    };
    if holds.is_some() && !hold::may_resume(&client, &namespaces).await? {
        warn!(
            "rollouts are not held: without the right to get and patch Deployments they could not be resumed"
        );
        holds = None;
    }
    let tasks = TaskTracker::new();
    tasks.spawn(log);
    let leading = watch::Sender::new(false);
    let resolver = Arc::new(Resolver::default());
    let tls = resolver.clone().server_config(client_ca.as_ref())?;
    let address = Address {
        service: service.clone(),
        namespace: namespace.clone(),
        hosts: tls_san.clone(),
    };
    let configuration = webhook_configuration.clone();
    let registered = match tls_cert.zip(tls_key) {
        Some((cert, key)) => {
            let files = Files { cert, key };
            let (content, validity) = files.load(&resolver)?;
            let report = {
                let metrics = metrics.clone();
                move |validity: Validity| {
                    metrics.certificate_expires(validity.until.unix_timestamp())
                }
            };
            report(validity);
            tasks.spawn(files.keep(content, resolver, report));
            // Who looks after the certificate looks after its registration.
            watch::Sender::new(true)
        }
        None => {
            let trusted = watch::Sender::default();
            let bundle = watch::Sender::default();
            let registered = watch::Sender::new(false);
            let registration = Registration {
                name: webhook_configuration,
                retry: lifetimes.check_interval(),
                leading: leading.subscribe(),
                bundle: bundle.subscribe(),
                trusted: trusted.clone(),
            };
            let settings = keeper::Settings {
                namespace: namespace.clone(),
                secret: ca_secret,
                names: [vec![format!("{service}.{namespace}.svc")], tls_san].concat(),
                lifetimes,
            };
            let channels = keeper::Channels {
                leading: leading.subscribe(),
                trusted: trusted.subscribe(),
                bundle,
                registered: registered.clone(),
            };
            let (clock, metrics) = (Clock::system(), metrics.clone());
            let keeper =
                Keeper::start(client.clone(), settings, clock, resolver, metrics, channels);
            tasks.spawn(keeper.await?.run());
            tasks.spawn(registration.run(client.clone()));
            registered
        }
    };
    let listener = server::listen(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let probe_listener =
        server::listen(probe_listen).with_context(|| format!("cannot listen on {probe_listen}"))?;
    info!(%listen, %probe_listen, %identity, %noop_image, "starting");

    let settings = Arc::new(PodSettings {
        noop_image: noop_image.clone(),
        method: PullMethodFlag::forced(pull_method),
        pin: pin.into(),
        run_as: service_account.into(),
        priority_class: Some(priority_class).filter(|name| !name.is_empty()),
        deadline_seconds: i64::try_from(pod_deadline.as_secs()).unwrap_or(i64::MAX),
    });
    let cluster = Cluster::new(cluster::Settings {
        own_namespace: namespace.clone(),
        noop_image,
        node_images: trust_node_images,
        metrics: metrics.clone(),
    });
    cluster.spawn(&client, namespaces.clone(), &tasks);

    let stop = CancellationToken::new();
    let worker_done = CancellationToken::new();
    let candidate = Candidate {
        client: client.clone(),
        namespace: namespace.clone(),
        name: "headstart".to_owned(),
        identity: identity.clone(),
        duration: lease_duration,
    };
    let election = tokio::spawn(candidate.run(leading.clone(), stop.clone(), worker_done.clone()));

    let (reporter, writer) = Reporter::new(client.clone(), &identity, metrics.clone());
    let writer = tokio::spawn(writer);
    let self_test = SelfTest {
        namespace: namespace.clone(),
        pod: pod_name,
        deployment,
        configuration,
        address,
        identity: identity.clone(),
        metrics: metrics.clone(),
        reporter: reporter.clone(),
    };
    let (permit, self_test) = self_test.start(client.clone(), require_policies);
    tokio::spawn(stop.clone().run_until_cancelled_owned(self_test));
    let hints = Arc::new(Hints::default());
    let worker = Worker {
        cluster: cluster.clone(),
        hints: hints.clone(),
        puller: Puller::new(
            client.clone(),
            usize::from(max_writes),
            settings.clone(),
            metrics.clone(),
            permit.clone(),
        ),
        whereabouts: Whereabouts::new(client.clone()),
        reporter,
        client,
        metrics: metrics.clone(),
        settings: settings.clone(),
        policy: Policy {
            retain: SignedDuration::try_from(retain).unwrap_or(SignedDuration::MAX),
            limits: Limits {
                nodes: unsigned(max_pulling_nodes),
                per_registry: unsigned(max_pulls_per_registry),
                per_node: usize::from(pods_per_node),
            },
            refresh,
            new_node_deployments: usize::from(new_node_deployments),
            holds,
        },
    };
    let leader = tokio::spawn(work_while_leading(
        worker,
        leading.subscribe(),
        stop.clone(),
    ));

    let readiness = Arc::new(Readiness::default());
    let (accepting, accepts) = oneshot::channel();
    tasks.spawn(keep_ready(
        readiness.clone(),
        cluster.clone(),
        accepts,
        registered.subscribe(),
        stop.clone(),
    ));
    let closing = CancellationToken::new();
    let shutdown = Shutdown {
        draining: stop.clone(),
        closing: closing.clone(),
        deadline: CLOSE_DEADLINE,
    };
    let probes = probes(readiness, metrics.clone());
    let probe_thread = serve_probes(probe_listener, probes, shutdown.clone())
        .context("cannot start the thread for probes")?;
    let webhook = Webhook {
        hints,
        metrics,
        own_namespace: namespace.into(),
        budget: Budget::default(),
        gate: holds.map(|limits| Gate {
            cluster,
            settings,
            limits,
            namespaces: namespaces.into(),
            permit,
        }),
    };
    let mut server = tokio::spawn(serve_tls(
        listener,
        tls,
        router(webhook),
        accepting,
        shutdown,
    ));
    let mut essential = Essential { leader, election };

    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        failed = &mut server => Err(ended("webhook server", failed)),
        _ = probe_thread => Err(anyhow!("the server for probes and metrics ended")),
        failed = essential.end() => Err(failed),
    };
    let Essential { leader, election } = essential;
    // Not ready, but serving: the API server takes a while to notice. The work ends meanwhile, under the lease,
    // and the lease is given up at once, so that a standby goes on.
    info!("stopping");
    stop.cancel();
    let orderly = async {
        let _ = leader.await;
        worker_done.cancel();
        let _ = election.await;
        let _ = writer.await;
        if outcome.is_ok() {
            tokio::time::sleep(drain).await;
        }
        closing.cancel();
        if !server.is_finished() {
            let _ = server.await;
        }
    };
    tokio::select! {
        () = orderly => {}
        () = signals.next() => warn!("second signal: stopping now"),
    }
    outcome
}

/// Tasks without which the process is of no use: when one ends, it ends.
struct Essential {
    leader: JoinHandle<()>,
    election: JoinHandle<()>,
}

impl Essential {
    async fn end(&mut self) -> anyhow::Error {
        tokio::select! {
            result = &mut self.leader => ended("worker", result),
            result = &mut self.election => ended("leader election", result),
        }
    }
}

fn ended(what: &str, result: Result<(), tokio::task::JoinError>) -> anyhow::Error {
    match result {
        Ok(()) => anyhow!("the {what} ended"),
        Err(error) => anyhow!("the {what} failed: {error}"),
    }
}

/// Runs the worker whenever this replica leads and its caches are complete; ends with it once stopped.
async fn work_while_leading(
    worker: Worker,
    mut leading: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let metrics = worker.metrics.clone();
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = worker.cluster.wait_until_synced() => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // Fails only with the election, which ends the process.
            led = wait_for(&mut leading, true) => if !led { return },
        }
        metrics.leading(true);
        let term = stop.child_token();
        let work = worker.clone().run(term.clone());
        tokio::pin!(work);
        tokio::select! {
            // Stopped: it ends what it has under way, and then by itself.
            () = &mut work => {}
            // Lost: nothing may be written any more.
            _ = wait_for(&mut leading, false) => {
                term.cancel();
                work.await;
            }
        }
        metrics.leading(false);
    }
}

/// Whether the value came before its sender went.
async fn wait_for(receiver: &mut watch::Receiver<bool>, value: bool) -> bool {
    receiver.wait_for(|current| *current == value).await.is_ok()
}

/// Ready when the caches are complete, connections are accepted and the API server trusts our certificate, until
/// stopped.
async fn keep_ready(
    readiness: Arc<Readiness>,
    cluster: Arc<Cluster>,
    accepts: oneshot::Receiver<()>,
    mut registered: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let follow = async {
        cluster.wait_until_synced().await;
        if accepts.await.is_err() {
            pending::<Infallible>().await;
        }
        loop {
            readiness.set(*registered.borrow_and_update());
            if registered.changed().await.is_err() {
                pending::<Infallible>().await;
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = stop.cancelled() => {}
    }
    readiness.set(false);
}

fn unsigned(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
