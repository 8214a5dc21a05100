//! The cluster that updates are measured on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::stream::{self, StreamExt as _};
use futures::{FutureExt as _, future};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use testbed::control_plane::Options;
use testbed::headstart::{Installed, Profile};
use testbed::process::Wait;
use testbed::rollout::{self, Timeline, is_complete};
use testbed::{Image, Nodes};

use super::sample::{Strategy, Update, Variant};

const REPLICAS: u16 = 12;
/// The seconds that the registry takes to send one image to one node. A pull takes no longer, as layers are unpacked
/// meanwhile.
const TRANSFER: f64 = 5.0;
/// The limit for one update, and for each wait.
const LIMIT: Duration = Duration::from_secs(300);
/// Deletes the prefetch pods of one update before the next is measured.
const FLAGS: [&str; 1] = ["--retain=1s"];

/// Directories of the Go installation that built the testbed, and the size of the layer made of each: sources in some thousand
/// files. Every machine with a testbed has them.
const TREES: [(&str, u64); 3] = [
    ("src/cmd", 3 << 20),
    ("src/crypto", 3 << 20),
    ("test", 2 << 20),
];
/// The size of the layer that does not compress. It is small, and the registry is slowed down to match. All nodes unpack with
/// this machine's cores, while real nodes have their own, so the registry has to be the long part of a pull.
const RANDOM: u64 = 4 << 20;

/// A cluster with headstart, and a Deployment for each variant.
pub(crate) struct TestCluster {
    nodes: Nodes,
    go: PathBuf,
    /// Images made so far.
    images: u64,
    /// The current image of each Deployment, by namespace.
    current: BTreeMap<&'static str, String>,
}

/// The machine's CPU time since it started, in ticks.
#[derive(Clone, Copy)]
struct CpuTime {
    all: f64,
    idle: f64,
}

impl CpuTime {
    /// Reads the first line of Linux' `/proc/stat`. Its fourth and fifth numbers are the time idle and the time waiting for
    /// the disk.
    fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            all: ticks.iter().sum(),
            idle: ticks.iter().skip(3).take(2).sum(),
        })
    }

    fn busy_since(self, begun: Self) -> f64 {
        1.0 - (self.idle - begun.idle) / (self.all - begun.all)
    }
}

/// An event during an update.
enum News {
    Pod(watcher::Event<Pod>),
    Deployment(watcher::Event<Deployment>),
    Written,
}

impl TestCluster {
    pub(crate) async fn start(nodes: u16) -> Result<Self> {
        let nodes = Nodes::start(nodes.into(), Options::default()).await?;
        let _installed = Installed::on(&nodes, Profile::Release, &FLAGS).await?;
        let go = tokio::process::Command::new("go")
            .args(["env", "GOROOT"])
            .output()
            .await?;
        let mut cluster = Self {
            nodes,
            go: String::from_utf8(go.stdout)?.trim().into(),
            images: 0,
            current: BTreeMap::new(),
        };
        for variant in Variant::ALL {
            cluster.deploy(variant).await?;
        }
        cluster.limit_registry().await?;
        for variant in Variant::ALL {
            cluster.until_at_rest(variant).await?;
        }
        Ok(cluster)
    }

    /// Creates the namespace and the Deployment of a variant, with a first image of almost no size.
    async fn deploy(&mut self, variant: Variant) -> Result<()> {
        let namespace = variant.namespace();
        let image = Image::default()
            .program("/pause", pause()?)
            .entrypoint(&["/pause"])
            .marked(namespace);
        let image = self
            .nodes
            .registry()
            .push(&format!("{namespace}/web:0"), &image)
            .await?;
        let mut labels = json!({});
        if let Some(mode) = variant.label() {
            labels["headstart.dev/prefetch"] = json!(mode);
        }
        let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": labels } },
            rollout::deployment(namespace, REPLICAS, rollout::Strategy::Quarters, &image),
        ]});
        self.nodes
            .control_plane()
            .kubectl_with_input(&["apply", "-f", "-"], &objects.to_string())
            .await?;
        self.current.insert(namespace, image);
        Ok(())
    }

    /// Sets the bandwidth so that the registry sends an image in [`TRANSFER`] seconds. The size of an image depends on the
    /// machine's Go.
    async fn limit_registry(&mut self) -> Result<()> {
        let image = self.fresh_image("calibration").await?;
        let first = self.first_node();
        self.nodes.pull_image(&first, &image).await?;
        let bytes = self.pulled(&image).await?;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some megabytes"
        )]
        let per_second = (bytes as f64 / TRANSFER) as u64;
        self.nodes.registry().limit_bandwidth(per_second).await?;
        self.forget(&image).await
    }

    fn first_node(&self) -> String {
        self.nodes.names().swap_remove(0)
    }

    /// Pushes an image that shares no layer with any other.
    async fn fresh_image(&mut self, repository: &str) -> Result<String> {
        self.images += 1;
        let mark = self.images;
        let trees = TREES.iter().fold(
            Image::default().program("/pause", pause()?),
            |image, (directory, bytes)| image.tree(self.go.join(directory), *bytes),
        );
        let image = trees
            .random_layer(RANDOM, mark)
            .marked(&mark.to_string())
            .entrypoint(&["/pause"]);
        self.nodes
            .registry()
            .push(&format!("{repository}/web:{mark}"), &image)
            .await
    }

    /// Returns the bytes of this image's repository that nodes have read from the registry since `forget_requests`.
    async fn pulled(&self, image: &str) -> Result<u64> {
        let repository = repository(image)?;
        let requests = self.nodes.registry().requests().await?;
        let of_nodes = requests.iter().filter(|request| {
            // The bench itself pushes at the registry's own address.
            request.repository == repository && request.method == "GET"
        });
        Ok(of_nodes.map(|request| request.bytes).sum())
    }

    async fn on_every_node(&self, ask: impl AsyncFn(&str) -> Result<()>) -> Result<()> {
        let names = self.nodes.names();
        let asked = names.iter().map(|node| ask(node));
        future::try_join_all(asked).await.map(drop)
    }

    /// Removes an image from every node.
    async fn forget(&self, image: &str) -> Result<()> {
        self.on_every_node(async |node| self.nodes.remove_image(node, image).await)
            .await
    }

    /// Removes the ended pods of this update, so that the kubelets do not collect them while another update is measured.
    async fn remove_ended_pods(&self) -> Result<()> {
        self.on_every_node(async |node| self.nodes.remove_ended_pods(node).await)
            .await
    }

    /// Pulls a fresh image onto every node at once. Returns the duration in seconds.
    async fn preload(&self, image: &str) -> Result<f64> {
        let started = Instant::now();
        self.on_every_node(async |node| self.nodes.pull_image(node, image).await)
            .await?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Returns the duration in seconds of one node's pull of a fresh image, while the cluster is otherwise idle.
    pub(crate) async fn one_pull(&mut self) -> Result<f64> {
        let image = self.fresh_image("pull").await?;
        let first = self.first_node();
        let started = Instant::now();
        self.nodes.pull_image(&first, &image).await?;
        let took = started.elapsed().as_secs_f64();
        self.forget(&image).await?;
        Ok(took)
    }

    /// Updates a variant's Deployment to a fresh image, and watches until it is complete.
    pub(crate) async fn update(&mut self, variant: Variant, strategy: Strategy) -> Result<Update> {
        let namespace = variant.namespace();
        let client = self.nodes.control_plane().client()?;
        let deployments: Api<Deployment> = Api::namespaced(client, namespace);
        let change = Patch::Merge(json!({ "spec": { "strategy": strategy.of_testbed().spec() } }));
        deployments
            .patch(rollout::NAME, &PatchParams::default(), &change)
            .await?;
        let image = self.fresh_image(namespace).await?;
        self.nodes.registry().forget_requests().await?;
        let preload = match variant {
            Variant::Preloaded => Some(self.preload(&image).await?),
            _ => None,
        };
        self.until_at_rest(variant).await?;
        let (seen, busy) = tokio::time::timeout(LIMIT, self.watch(&deployments, &image))
            .await
            .with_context(|| format!("waited {LIMIT:?} in vain for {image} to be rolled out"))??;
        let update = Update {
            complete: seen
                .complete()
                .context("it was said to be complete")?
                .as_secs_f64(),
            held: seen.held().map(|held| held.as_secs_f64()),
            starts: seen.starts().iter().map(Duration::as_secs_f64).collect(),
            lost: seen.lost().as_secs_f64(),
            bytes: self.pulled(&image).await?,
            preload,
            busy: Some(busy),
        };
        self.until_at_rest(variant).await?;
        if let Some(previous) = self.current.insert(namespace, image) {
            self.forget(&previous).await?;
        }
        self.remove_ended_pods().await?;
        Ok(update)
    }

    /// Writes the image and watches until every replica runs it. Also returns the share of the machine's CPU time that was
    /// used since then, or since the end of the hold.
    async fn watch(&self, deployments: &Api<Deployment>, image: &str) -> Result<(Timeline, f64)> {
        let client = self.nodes.control_plane().client()?;
        let namespace = deployments
            .namespace()
            .context("Deployments are in a namespace")?;
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let selected = watcher::Config::default().labels(&format!("app={}", rollout::NAME));
        let pods = watcher(pods, selected).default_backoff();
        let states = watcher(deployments.clone(), watcher::Config::default()).default_backoff();
        let mut watched = stream::select(
            pods.map(|event| event.map(News::Pod)).boxed(),
            states.map(|event| event.map(News::Deployment)).boxed(),
        );
        let mut timeline = Timeline::new(REPLICAS, image);
        let mut lists = 0;
        while lists < 2 {
            let news = watched.next().await.context("a watch ended")??;
            lists += usize::from(matches!(
                news,
                News::Pod(watcher::Event::InitDone) | News::Deployment(watcher::Event::InitDone)
            ));
            note(&mut timeline, news);
        }
        let change = Patch::Strategic(json!({
            "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": image }] } } }
        }));
        let parameters = PatchParams::default();
        timeline.begin(Instant::now());
        let written = deployments
            .patch(rollout::NAME, &parameters, &change)
            .map(|answer| answer.map(|_| Ok(News::Written)))
            .into_stream()
            .map(|answer| answer.map_err(anyhow::Error::from)?);
        let watched = watched.map(|news| news.map_err(anyhow::Error::from));
        let mut news = stream::select(written.boxed(), watched.boxed());
        let mut begun = CpuTime::now()?;
        while timeline.complete().is_none() {
            let was_held = timeline.held().is_some();
            note(&mut timeline, news.next().await.context("a watch ended")??);
            if timeline.held().is_some() && !was_held {
                begun = CpuTime::now()?;
            }
        }
        let busy = CpuTime::now()?.busy_since(begun);
        Ok((timeline, busy))
    }

    /// Waits until earlier updates are over: every replica runs, and no other pod or prefetch pod is left.
    async fn until_at_rest(&self, variant: Variant) -> Result<()> {
        let client = self.nodes.control_plane().client()?;
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), variant.namespace());
        let pods: Api<Pod> = Api::namespaced(client.clone(), variant.namespace());
        let everywhere: Api<Pod> = Api::all(client);
        let prefetch = ListParams::default().labels("app.kubernetes.io/managed-by=headstart");
        let wait = Wait::new(format!("{} to be at rest", variant.namespace()), LIMIT);
        loop {
            let is_at_rest = is_complete(&deployments.get(rollout::NAME).await?)
                && pods
                    .list_metadata(&ListParams::default())
                    .await?
                    .items
                    .len()
                    == usize::from(REPLICAS)
                && everywhere.list_metadata(&prefetch).await?.items.is_empty();
            if is_at_rest {
                return Ok(());
            }
            wait.pause().await?;
        }
    }
}

fn note(timeline: &mut Timeline, news: News) {
    let now = Instant::now();
    match news {
        News::Pod(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
            timeline.pod(now, &pod);
        }
        News::Pod(watcher::Event::Delete(pod)) => timeline.pod_gone(now, &pod),
        News::Deployment(
            watcher::Event::Apply(deployment) | watcher::Event::InitApply(deployment),
        ) => {
            timeline.deployment(now, &deployment);
        }
        News::Pod(_) | News::Deployment(_) | News::Written => {}
    }
}

fn pause() -> Result<PathBuf> {
    Ok(testbed::assets::Assets::nodes()?.pause())
}

/// `shop/web` of `127.0.0.1:5000/shop/web:2`.
fn repository(image: &str) -> Result<String> {
    let parts = image
        .split_once('/')
        .and_then(|(_, name)| name.rsplit_once(':'));
    let Some((repository, _)) = parts else {
        bail!("{image} has no registry or no tag");
    };
    Ok(repository.to_owned())
}
