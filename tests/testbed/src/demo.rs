//! `cargo demo`: the same rollout without and with headstart, side by side, on real nodes.

mod rollout;
mod table;

use anyhow::Result;
use clap::Args;

use self::rollout::{Rollout, Subject};
use crate::control_plane::{ControlPlane, Options};
use crate::headstart::{Installed, Local, Profile};
use crate::image::Image;
use crate::nodes::{self, Nodes};
use crate::persistent::PersistentCluster;
use crate::rollout::{Strategy, deployment};
use crate::{FakeNodes, progress};

const NAMESPACE: &str = "shop";
const MIB: u64 = 1 << 20;
/// Layers of the large image: runtimes fetch some at a time, as they do with real images.
const LAYERS: u64 = 4;

/// The options of `cargo demo`.
#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// Real nodes (root, Linux)
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Nodes that only pretend to pull, where there can be no real ones
    #[arg(long, default_value_t = 200, value_name = "N")]
    fake_nodes: usize,
    /// Replicas of the Deployment
    #[arg(long, default_value_t = 12, value_name = "N")]
    replicas: u16,
    /// Size of the new image
    #[arg(long, default_value_t = 96, value_name = "MIB")]
    image_size: u64,
    /// Bandwidth of the registry for each node, per second
    #[arg(long, default_value_t = 12, value_name = "MIB")]
    bandwidth: u64,
    /// Leave the cluster running at the end
    #[arg(long)]
    keep: bool,
}

/// Shows it, and takes everything down again unless told to keep it.
///
/// # Errors
/// Fails if the cluster or headstart does not come up, or a rollout does not complete.
pub async fn run(demo: Demo) -> Result<()> {
    let cluster = match nodes::unavailable() {
        None => on_real_nodes(&demo).await?,
        Some(reason) => {
            println!("{reason}; the nodes below only pretend to pull.\n");
            on_fake_nodes(&demo).await?
        }
    };
    if demo.keep {
        let usage = cluster.keep().await?;
        println!(
            "\nThe cluster is left running. To use it:\n\n{usage}\nTry next:\n\n\
             kubectl get pods -n {NAMESPACE} -l app.kubernetes.io/managed-by=headstart -o wide\n\
             kubectl events -n {NAMESPACE} --for deployment/web\n\
             kubectl logs -n headstart deployment/headstart\n"
        );
    }
    Ok(())
}

async fn on_real_nodes(demo: &Demo) -> Result<PersistentCluster> {
    let step =
        progress::Progress::start(format!("starting a cluster with {} real nodes", demo.nodes));
    let cluster = Nodes::start(demo.nodes.into(), Options::default()).await?;
    step.done();
    let _installed = Installed::on(&cluster, Profile::Ci, &[]).await?;
    println!("headstart is installed: kubectl apply -k manifests\n");

    let registry = cluster.registry();
    let small = image(cluster.control_plane(), "small", 0);
    let subject = Subject {
        namespace: NAMESPACE,
        replicas: demo.replicas,
        first_image: registry.push("shop/web:1", &small).await?,
    };
    let mut large = Vec::new();
    for (seed, repository) in [(1, "shop/without"), (2, "shop/with")] {
        let image = image(cluster.control_plane(), repository, seed * 100);
        let layer = demo.image_size * MIB / LAYERS;
        let image = (0..LAYERS).fold(image, |image, index| {
            image.random_layer(layer, seed * 100 + index)
        });
        large.push((
            repository,
            registry.push(&format!("{repository}:2"), &image).await?,
        ));
    }
    registry.limit_bandwidth(demo.bandwidth * MIB).await?;
    println!(
        "A Deployment of {} replicas gets a new image of {} MiB, which is on none of {} nodes.\n\
         The registry gives each node {} MiB/s. Replicas are replaced one by one.\n",
        demo.replicas, demo.image_size, demo.nodes, demo.bandwidth,
    );

    let control_plane = cluster.control_plane();
    control_plane
        .kubectl(&["create", "namespace", NAMESPACE])
        .await?;
    let mut rollouts = Vec::new();
    for (with, (repository, image)) in [false, true].into_iter().zip(&large) {
        if with {
            control_plane
                .kubectl(&[
                    "label",
                    "namespace",
                    NAMESPACE,
                    "headstart.dev/prefetch=enabled",
                ])
                .await?;
            println!("kubectl label namespace {NAMESPACE} headstart.dev/prefetch=enabled");
        }
        subject.prepare(control_plane).await?;
        println!("kubectl set image -n {NAMESPACE} deployment/web app={image}");
        let title = if with {
            "with headstart"
        } else {
            "without headstart"
        };
        rollouts.push(Rollout::observe(&cluster, &subject, title, repository, image).await?);
        println!();
    }
    print!("{}", table::comparison(&rollouts, &cluster.names()));
    Ok(PersistentCluster::Real(Box::new(cluster)))
}

/// A small image without a shell; `mark` makes it differ from others.
fn image(control_plane: &ControlPlane, mark: &str, seed: u64) -> Image {
    let pause = control_plane.assets().pause();
    Image::default()
        .program("/pause", pause)
        .file("/mark", &format!("{mark} {seed}"))
        .entrypoint(&["/pause"])
}

async fn on_fake_nodes(demo: &Demo) -> Result<PersistentCluster> {
    let cluster = ControlPlane::start(Options::default()).await?;
    let fake = FakeNodes {
        count: demo.fake_nodes,
        ..FakeNodes::default()
    };
    cluster.add_fake_nodes(fake, |_, _| {}).await?;
    let headstart = Local::start(&cluster, Profile::Ci, &[]).await?;
    cluster.kubectl(&["create", "namespace", NAMESPACE]).await?;
    cluster
        .kubectl(&[
            "label",
            "namespace",
            NAMESPACE,
            "headstart.dev/prefetch=enabled",
        ])
        .await?;
    let started = std::time::Instant::now();
    let image = "registry.example/shop/web:2";
    let object = deployment(NAMESPACE, demo.replicas, Strategy::OneByOne, image);
    cluster
        .kubectl_with_input(&["apply", "-f", "-"], &object.to_string())
        .await?;
    let note = rollout::until_event(&cluster, NAMESPACE, "Prefetched").await?;
    println!(
        "{:5.1} s after the Deployment was created, headstart reports:\n\n    {note}\n",
        started.elapsed().as_secs_f64()
    );
    if demo.keep {
        headstart.process().leave();
    }
    Ok(PersistentCluster::Fake(Box::new(cluster)))
}
