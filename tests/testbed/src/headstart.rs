//! headstart itself, as its users get it: the static binary in an image, installed from its own manifests.

mod build;
mod manifests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::{Client, Config};
use serde_json::json;

use crate::control_plane::{ControlPlane, free_port};
use crate::image::Image;
use crate::nodes::Nodes;
use crate::process::{Process, Wait, without_proxies};
pub use build::binary;
use manifests::Manifests;

/// Its namespace, and the name of all its objects.
pub const NAME: &str = "headstart";
/// How long it may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// headstart in the cluster: what `kubectl apply -k manifests` installs, with an image made here.
#[derive(Debug)]
pub struct Installed {
    manifests: PathBuf,
}

impl Installed {
    /// Installs it with these flags added, and waits until every replica is ready.
    ///
    /// # Errors
    /// When it cannot be built, or does not become ready.
    pub async fn on(nodes: &Nodes, flags: &[&str]) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(binary).await??;
        let image = Image::default()
            .program("/headstart", binary)
            .entrypoint(&["/headstart"])
            .user("65532:65532");
        let image = nodes.registry().push("headstart:dev", &image).await?;
        let control_plane = nodes.control_plane();
        let manifests = control_plane.dir().join("install");
        Manifests::read()?
            .image(&image)?
            .flags(flags)?
            .write(&manifests)?;
        let installed = Self { manifests };
        control_plane
            .kubectl(&["apply", "-k", &installed.path()])
            .await?;
        installed.wait_until_ready(control_plane).await?;
        Ok(installed)
    }

    /// Waits until every replica is ready and the API server trusts them.
    ///
    /// # Errors
    /// When they do not become ready; what their pods say is in the message.
    pub async fn wait_until_ready(&self, control_plane: &ControlPlane) -> Result<()> {
        let timeout = format!("--timeout={}s", READY_LIMIT.as_secs());
        let rollout = [
            "rollout",
            "status",
            "deployment/headstart",
            "-n",
            NAME,
            &timeout,
        ];
        let Err(error) = control_plane.kubectl(&rollout).await else {
            return Ok(());
        };
        let pods = control_plane
            .kubectl(&["get", "pods", "-n", NAME, "-o", "wide"])
            .await
            .unwrap_or_default();
        let logs = self.logs(control_plane).await.unwrap_or_default();
        Err(error).with_context(|| format!("headstart is not ready:\n{pods}\n{logs}"))
    }

    /// The end of every replica's log.
    ///
    /// # Errors
    /// When a replica's kubelet does not answer.
    pub async fn logs(&self, control_plane: &ControlPlane) -> Result<String> {
        let selector = format!("app.kubernetes.io/name={NAME}");
        control_plane
            .kubectl(&[
                "logs",
                "-n",
                NAME,
                "-l",
                &selector,
                "--tail=400",
                "--prefix",
            ])
            .await
    }

    /// Removes it as the README says.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub async fn uninstall(self, control_plane: &ControlPlane) -> Result<()> {
        control_plane
            .kubectl(&["delete", "-k", &self.path(), "--wait", "--timeout=120s"])
            .await
            .map(drop)
    }

    fn path(&self) -> String {
        self.manifests.display().to_string()
    }
}

/// headstart as a process on this machine, for control planes without real nodes. It has the rights that its
/// manifests give it, and the API server calls it by URL. Dropping it kills it.
#[derive(Debug)]
pub struct Local {
    process: Process,
    probes: String,
}

impl Local {
    /// Applies the manifests, starts one replica of the static release binary with these flags added, and waits until
    /// it is ready.
    ///
    /// # Errors
    /// When it cannot be built, or does not become ready.
    pub async fn start(control_plane: &ControlPlane, flags: &[&str]) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(binary).await??;
        Self::start_binary(control_plane, &binary, flags).await
    }

    /// The same with a binary that is there already: what `cargo test` built is enough where only what it does counts.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_binary(
        control_plane: &ControlPlane,
        binary: &Path,
        flags: &[&str],
    ) -> Result<Self> {
        let kubeconfig = Self::install(control_plane).await?;
        Self::start_through(control_plane, binary, &kubeconfig, flags).await
    }

    /// Applies the manifests; returns a kubeconfig that acts as the ServiceAccount they make.
    ///
    /// # Errors
    /// When they cannot be applied.
    pub async fn install(control_plane: &ControlPlane) -> Result<PathBuf> {
        let directory = control_plane.dir().join("install");
        Manifests::read()?
            .called_by_url("https://127.0.0.1:1")?
            .write(&directory)?;
        control_plane
            .kubectl(&["apply", "-k", &directory.display().to_string()])
            .await?;
        control_plane.service_account_kubeconfig(NAME, NAME).await
    }

    /// Starts one replica that reaches the API server as this kubeconfig says, and has the API server call it.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_through(
        control_plane: &ControlPlane,
        binary: &Path,
        kubeconfig: &Path,
        flags: &[&str],
    ) -> Result<Self> {
        let (port, probe_port) = (free_port()?, free_port()?);
        let call = |(webhook, path): (usize, &str)| {
            let url = format!("https://127.0.0.1:{port}{path}");
            json!({ "op": "replace", "path": format!("/webhooks/{webhook}/clientConfig/url"), "value": url })
        };
        let patch = serde_json::Value::from_iter(
            ["/mutate", "/hold", "/mutate"]
                .into_iter()
                .enumerate()
                .map(call),
        )
        .to_string();
        control_plane
            .kubectl(&[
                "patch",
                "mutatingwebhookconfiguration",
                NAME,
                "--type=json",
                "--patch",
                &patch,
            ])
            .await?;
        let process = Process::spawn(
            control_plane.run(),
            NAME,
            command(binary, kubeconfig, port, probe_port, flags),
        )?;
        let local = Self {
            process,
            probes: format!("http://127.0.0.1:{probe_port}"),
        };
        let wait = Wait::new(
            format!("headstart ({})", local.process.log().display()),
            READY_LIMIT,
        );
        while local.get("/readyz").await.is_err() {
            local.process.check_alive()?;
            wait.pause().await?;
        }
        Ok(local)
    }

    /// What it answers to probes and scrapes: `/livez`, `/readyz`, `/metrics`.
    ///
    /// # Errors
    /// When it does not answer with success.
    pub async fn get(&self, path: &str) -> Result<String> {
        let client = Client::try_from(Config::new(self.probes.parse()?))?;
        Ok(client
            .request_text(http::Request::get(path).body(Vec::new())?)
            .await?)
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn command(
    binary: &Path,
    kubeconfig: &Path,
    port: u16,
    probe_port: u16,
    flags: &[&str],
) -> std::process::Command {
    let mut command = without_proxies(binary);
    command
        .arg("serve")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args([
            &format!("--listen=127.0.0.1:{port}"),
            &format!("--probe-listen=127.0.0.1:{probe_port}"),
            "--tls-san=127.0.0.1",
            "--noop-image=headstart.dev/headstart:dev",
        ]);
    command.args(flags);
    command
}
