//! Real nodes: kubelets with containerd and runc, as root on Linux, and registries that they pull from.
//!
//! All nodes share the machine. Each has its own containerd, kubelet, pod network and directory, so that an image
//! that one has pulled is not on another. The API server's Service has its address on the loopback interface, and
//! the API server listens there: pods find it as in any cluster, without kube-proxy.

mod config;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::assets::Assets;
use crate::control_plane::{ControlPlane, Options, SERVICE_ADDRESS, kubeconfig};
use crate::fake_nodes::is_ready;
use crate::image::Image;
use crate::process::{Process, READY_LIMIT, Wait, output, without_proxies};
use crate::registry::{Credentials, Registry, node_address};
use crate::run_dir::{self, RunDir};

/// The longest time that the reaper of a run that has just ended may take to give the machine back.
const HANDOVER_LIMIT: Duration = Duration::from_secs(120);
/// Nodes have a digit in several addresses.
const MOST_NODES: usize = 9;
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// The directory in which every kubelet of a machine links the logs of containers, with any directories of its own.
const CONTAINER_LOGS: &str = "/var/log/containers";
/// The directories in which every containerd of a machine has the sockets of its shims.
const SHIM_SOCKETS: [&str; 2] = ["/run/containerd", "/run/containerd/s"];

/// A cluster with real nodes, `node-1`, `node-2`, …. Dropping it ends it, and so does the end of this process.
#[derive(Debug)]
pub struct Nodes {
    // Dropped in this order: the processes on the nodes, their registries, their control plane.
    nodes: Vec<NodeProcesses>,
    private: Registry,
    registry: Registry,
    control_plane: ControlPlane,
    _turn: fs::File,
}

#[derive(Debug)]
struct NodeProcesses {
    kubelet: Option<Process>,
    containerd: Process,
}

/// A kubelet that is stopped. It goes on when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct FrozenKubelet(u32);

impl Drop for FrozenKubelet {
    fn drop(&mut self) {
        // It fails only for a process that has ended.
        let _ = signal("-CONT", self.0);
    }
}

fn signal(signal: &str, process: u32) -> Result<()> {
    let status = std::process::Command::new("kill")
        .args([signal, &process.to_string()])
        .status()?;
    ensure!(status.success(), "kill {signal} {process}: {status}");
    Ok(())
}

/// Returns whether this machine and user can have real nodes; otherwise why not.
pub fn unavailable() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("real nodes need Linux".into());
    }
    match run_dir::user_id() {
        Ok(0) => None,
        Ok(_) => Some("real nodes need root".into()),
        Err(error) => Some(error.to_string()),
    }
}

impl Nodes {
    /// Starts a control plane and this many nodes, and waits until all are ready.
    ///
    /// # Errors
    /// Without root, when another cluster with real nodes is kept, or when a component does not become ready.
    pub async fn start(count: usize, options: Options) -> Result<Self> {
        if let Some(reason) = unavailable() {
            bail!(reason);
        }
        ensure!(
            (1..=MOST_NODES).contains(&count),
            "from 1 to {MOST_NODES} real nodes, not {count}"
        );
        let assets = tokio::task::spawn_blocking(Assets::nodes).await??;
        let turn = tokio::task::spawn_blocking(take_turn).await??;
        run_dir::reap_abandoned(&assets)?;
        wait_for_handover().await?;
        let run = RunDir::create(&assets)?;
        fs::write(run.path().join(run_dir::REAL_NODES_FILE), "")?;
        prepare_machine(&assets, &run, count).await?;

        let control_plane = ControlPlane::start_in(assets.clone(), run, options, count).await?;
        let run = control_plane.run();
        let registry = Registry::start(&assets, run, "registry", count, None).await?;
        let credentials = Credentials {
            username: "shop".into(),
            password: "open-sesame".into(),
        };
        let private =
            Registry::start(&assets, run, "private-registry", count, Some(credentials)).await?;
        let pause = Image::default()
            .program("/pause", assets.pause())
            .entrypoint(&["/pause"]);
        let pause = registry.push("testbed/pause:1", &pause).await?;
        let mut cluster = Self {
            nodes: Vec::new(),
            private,
            registry,
            control_plane,
            _turn: turn,
        };
        for number in 1..=count {
            let node = cluster.start_containerd(number, &pause)?;
            cluster.nodes.push(node);
        }
        for number in 1..=count {
            let kubelet = cluster.start_kubelet(number).await?;
            cluster.nodes[number - 1].kubelet = Some(kubelet);
        }
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    fn start_containerd(&self, number: usize, pause: &str) -> Result<NodeProcesses> {
        let directory = self.node_directory(number);
        let assets = self.control_plane.assets();
        for made in ["cni", "logs", "ipam"] {
            fs::create_dir_all(directory.join(made))?;
        }
        let content = config::containerd(&directory, assets.bin(), pause);
        fs::write(directory.join("containerd.toml"), content)?;
        let content = config::cni(&directory, number);
        fs::write(directory.join("cni/testbed.conflist"), content)?;
        for registry in [&self.registry, &self.private] {
            let hosts = directory.join("certs.d").join(registry.address());
            fs::create_dir_all(&hosts)?;
            let content = config::registry_hosts(&node_address(number), registry.port());
            fs::write(hosts.join("hosts.toml"), content)?;
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = without_proxies(assets.program("containerd"));
        command
            .arg("--config")
            .arg(directory.join("containerd.toml"));
        // It looks for its shim there.
        command.env("PATH", format!("{}:{path}", assets.bin().display()));
        let name = format!("{}-containerd", node_name(number));
        let containerd = Process::spawn(self.control_plane.run(), &name, command)?;
        Ok(NodeProcesses {
            kubelet: None,
            containerd,
        })
    }

    async fn start_kubelet(&self, number: usize) -> Result<Process> {
        let directory = self.node_directory(number);
        let name = node_name(number);
        // A kubelet that finds no runtime ends.
        let wait = Wait::new(format!("the containerd of {name}"), READY_LIMIT);
        while self.images_on(&name).await.is_err() {
            self.check_alive()?;
            wait.pause().await?;
        }
        fs::write(directory.join("resolv.conf"), "")?;
        let content = config::kubelet(&directory, SERVICE_ADDRESS, number);
        fs::write(directory.join("kubelet.json"), content)?;
        let token = self.control_plane.dir().join(format!("{name}.token"));
        let token = fs::read_to_string(token)?;
        let authority = self.control_plane.dir().join("ca.crt");
        let content = kubeconfig(&self.control_plane.server(), &authority, &name, &token);
        fs::write(directory.join("kubeconfig"), content)?;

        let (program, first) = self.control_plane.assets().kubernetes("kubelet");
        let mut command = without_proxies(program);
        let flag = |name: &str, file: &str| format!("--{name}={}", directory.join(file).display());
        command.args(first).args([
            flag("config", "kubelet.json"),
            flag("kubeconfig", "kubeconfig"),
            flag("root-dir", "kubelet"),
            flag("cert-dir", "kubelet/pki"),
            format!("--hostname-override={name}"),
            // On the loopback interface, where the API server reaches it for logs; 127.0.0.1 it would refuse.
            format!("--node-ip={SERVICE_ADDRESS}"),
        ]);
        Process::spawn(
            self.control_plane.run(),
            &format!("{name}-kubelet"),
            command,
        )
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.control_plane.client()?);
        for number in 1..=self.nodes.len() {
            let name = node_name(number);
            let wait = Wait::new(
                format!(
                    "{name} to be ready (logs in {})",
                    self.log_directory().display()
                ),
                READY_LIMIT,
            );
            while !nodes
                .get_opt(&name)
                .await?
                .is_some_and(|node| is_ready(&node))
            {
                self.check_alive()?;
                wait.pause().await?;
            }
        }
        Ok(())
    }

    fn check_alive(&self) -> Result<()> {
        self.control_plane.check_alive()?;
        for NodeProcesses {
            kubelet,
            containerd,
        } in &self.nodes
        {
            containerd.check_alive()?;
            kubelet.iter().try_for_each(Process::check_alive)?;
        }
        Ok(())
    }

    /// Returns the control plane of the nodes.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The registry that asks for no credentials.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The registry that wants credentials for everything.
    pub fn private_registry(&self) -> &Registry {
        &self.private
    }

    /// Ends the registries, as an outage would.
    pub fn switch_registries_off(&mut self) {
        self.registry.switch_off();
        self.private.switch_off();
    }

    /// Starts the registries again, with the images they had.
    ///
    /// # Errors
    /// Fails if one does not become ready.
    pub async fn switch_registries_on(&mut self) -> Result<()> {
        let run = self.control_plane.run();
        self.registry.switch_on(run).await?;
        self.private.switch_on(run).await
    }

    /// The names of the nodes.
    pub fn names(&self) -> Vec<String> {
        (1..=self.nodes.len()).map(node_name).collect()
    }

    /// The images that a node's containerd has, by the name that the container runtime knows them by: tags and
    /// digests.
    ///
    /// # Errors
    /// Fails if the node's containerd does not answer.
    pub async fn images_on(&self, node: &str) -> Result<Vec<String>> {
        let images = self.ask_runtime("images", node, &[]).await?;
        Ok(images.lines().map(str::to_owned).collect())
    }

    /// Removes an image from a node; one that is not there is no error.
    ///
    /// # Errors
    /// Fails if the node's containerd does not answer.
    pub async fn remove_image(&self, node: &str, reference: &str) -> Result<()> {
        self.ask_runtime("remove-image", node, &[reference])
            .await
            .map(drop)
    }

    /// Pulls an image onto a node, without a pod and behind the kubelet's back.
    ///
    /// # Errors
    /// Fails if the node's containerd cannot pull it.
    pub async fn pull_image(&self, node: &str, reference: &str) -> Result<()> {
        self.ask_runtime("pull-image", node, &[reference])
            .await
            .map(drop)
    }

    /// Removes the pods that have ended and that a node's container runtime still keeps. Its kubelet does so about once a
    /// minute, for all of them at once, and keeps the machine busy with it for seconds.
    ///
    /// # Errors
    /// Fails if the node's containerd does not answer, or cannot remove one.
    pub async fn remove_ended_pods(&self, node: &str) -> Result<()> {
        self.ask_runtime("remove-ended-pods", node, &[])
            .await
            .map(drop)
    }

    async fn ask_runtime(&self, what: &str, node: &str, arguments: &[&str]) -> Result<String> {
        let socket = self.control_plane.dir().join(node).join("containerd.sock");
        let mut command =
            tokio::process::Command::from(without_proxies(self.control_plane.assets().tools()));
        command.arg(what).arg(socket).args(arguments);
        output(command, b"")
            .await
            .with_context(|| format!("ask the container runtime of {node}"))
    }

    /// Kills a container's process with SIGKILL, as a crash would end it.
    ///
    /// # Errors
    /// Fails if the node runs no such container.
    pub async fn kill_container(&self, node: &str, id: &str) -> Result<()> {
        let tasks = "containerd/state/io.containerd.runtime.v2.task/k8s.io";
        let file = self.control_plane.dir().join(node).join(tasks).join(id);
        let pid = fs::read_to_string(file.join("init.pid"))
            .with_context(|| format!("find the process of container {id}"))?;
        let mut kill = tokio::process::Command::new("kill");
        kill.args(["-KILL", &pid]);
        output(kill, b"").await.map(drop)
    }

    /// Stops a node's kubelet with SIGSTOP, until the result is dropped. Its containers run on.
    ///
    /// # Errors
    /// Fails if there is no such node, or no process.
    pub fn freeze_kubelet(&self, node: &str) -> Result<FrozenKubelet> {
        let numbered = (1..).zip(&self.nodes);
        let mut found = numbered.filter(|(number, _)| node_name(*number) == node);
        let kubelet = found.find_map(|(_, node)| node.kubelet.as_ref()?.id());
        let kubelet = kubelet.with_context(|| format!("no kubelet of {node}"))?;
        signal("-STOP", kubelet)?;
        Ok(FrozenKubelet(kubelet))
    }

    /// Sets a label of a node.
    ///
    /// # Errors
    /// Fails if the API server refuses it.
    pub async fn label(&self, node: &str, key: &str, value: &str) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.control_plane.client()?);
        let patch = json!({ "metadata": { "labels": { key: value } } });
        nodes
            .patch(node, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    pub(crate) fn leave(&self) {
        for NodeProcesses {
            kubelet,
            containerd,
        } in &self.nodes
        {
            kubelet.iter().for_each(Process::leave);
            containerd.leave();
        }
        self.registry.leave();
        self.private.leave();
    }

    fn node_directory(&self, number: usize) -> PathBuf {
        self.control_plane.dir().join(node_name(number))
    }

    fn log_directory(&self) -> PathBuf {
        self.control_plane.dir().join("log")
    }
}

fn node_name(number: usize) -> String {
    format!("node-{number}")
}

/// Waits until no other process of this machine has real nodes.
fn take_turn() -> Result<fs::File> {
    let lock = run_dir::parent()?.join("real-nodes.lock");
    crate::assets::lock(&lock, "another process that has real nodes")
}

/// A run that has ended may still be giving back addresses that the next one needs.
async fn wait_for_handover() -> Result<()> {
    let wait = Wait::new(
        "an earlier cluster with real nodes to be cleaned up",
        HANDOVER_LIMIT,
    );
    loop {
        let mut others = run_dir::all()?;
        others.retain(|run| run.join(run_dir::REAL_NODES_FILE).exists());
        if others.is_empty() {
            return Ok(());
        }
        if others
            .iter()
            .any(|run| run.join(run_dir::PERSISTENT_FILE).exists())
        {
            bail!(
                "a machine can have real nodes once, and a cluster with some is kept: end it with `cargo testbed down`"
            );
        }
        wait.pause().await?;
    }
}

/// Changes the machine as the nodes need it. Each change is written down before it is made.
async fn prepare_machine(assets: &Assets, run: &RunDir, count: usize) -> Result<()> {
    for number in 1..=count {
        run.before_changing(&format!("link {}", config::bridge(number)))?;
    }
    for directory in SHIM_SOCKETS.into_iter().chain([CONTAINER_LOGS]) {
        if !Path::new(directory).exists() {
            run.before_changing(&format!("directory {directory}"))?;
        }
    }
    run.before_changing(&format!(
        "links-into {CONTAINER_LOGS} {}",
        run.path().display()
    ))?;
    let forward = fs::read_to_string(IP_FORWARD).with_context(|| format!("read {IP_FORWARD}"))?;
    if forward.trim() != "1" {
        run.before_changing(&format!("sysctl {IP_FORWARD} {}", forward.trim()))?;
        fs::write(IP_FORWARD, "1").with_context(|| format!("write {IP_FORWARD}"))?;
    }
    let address = format!("{SERVICE_ADDRESS}/32");
    run.before_changing(&format!("address {address}"))?;
    let mut command = tokio::process::Command::from(without_proxies(assets.tools()));
    command.args(["add-address", &address]);
    output(command, b"").await.map(drop)
}
