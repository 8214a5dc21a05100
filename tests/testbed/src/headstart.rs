//! headstart itself, as its users get it: the static binary in an image, installed from its own manifests.

mod build;
mod calls;
mod manifests;
mod previous;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use kube::{Client, Config};

use crate::control_plane::{ControlPlane, free_port};
use crate::image::Image;
use crate::nodes::Nodes;
use crate::process::{Process, READY_LIMIT, Wait, ignore_proxies};
pub use build::{Profile, binary};
use manifests::Manifests;
pub use previous::{Availability, PREVIOUS_RELEASE, PreviousRelease};

/// Its namespace, and the name of all its objects.
pub const NAME: &str = "headstart";
/// The image that prefetch pods run where headstart is a local process. No node pulls it there.
pub const LOCAL_IMAGE: &str = "headstart.dev/headstart:dev";
/// A port that nothing listens on.
const NOBODY: u16 = 1;

/// headstart in the cluster: what `kubectl apply -k manifests` installs, with an image made here.
#[derive(Debug)]
pub struct Installed {
    manifests: PathBuf,
}

impl Installed {
    /// Builds and installs it with these flags added, and waits until every replica is ready.
    ///
    /// # Errors
    /// Fails if it cannot be built, or does not become ready.
    pub async fn on(nodes: &Nodes, profile: Profile, flags: &[&str]) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(move || binary(profile)).await??;
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
    /// Fails if they do not become ready; the list and the logs of their pods are in the message.
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
    /// Fails if a replica's kubelet does not answer.
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

    fn path(&self) -> String {
        self.manifests.display().to_string()
    }
}

/// headstart as a process on this machine, for control planes without real nodes. It has the rights that its
/// manifests give it, and the API server calls it by URL. Dropping it kills it.
#[derive(Debug)]
pub struct Local {
    process: Process,
    port: u16,
    probe_port: u16,
}

/// Returns the URL of a webhook of a local process.
fn local_url(port: u16, path: &str) -> String {
    format!("https://127.0.0.1:{port}{path}")
}

impl Local {
    /// Applies the manifests, starts one replica of the static binary with these flags added, and waits until it is
    /// ready.
    ///
    /// # Errors
    /// Fails if it cannot be built, or does not become ready.
    pub async fn start(
        control_plane: &ControlPlane,
        profile: Profile,
        flags: &[&str],
    ) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(move || binary(profile)).await??;
        let kubeconfig = Self::install(control_plane).await?;
        Self::start_through(control_plane, &binary, &kubeconfig, flags).await
    }

    /// Applies the manifests, with webhooks that call no replica yet. Returns a kubeconfig that acts as the
    /// ServiceAccount that they make.
    ///
    /// # Errors
    /// Fails if they cannot be applied.
    pub async fn install(control_plane: &ControlPlane) -> Result<PathBuf> {
        Self::apply_manifests(control_plane).await?;
        control_plane.service_account_kubeconfig(NAME, NAME).await
    }

    /// Applies the manifests, with webhooks that call no replica.
    ///
    /// # Errors
    /// Fails if they cannot be applied.
    pub async fn apply_manifests(control_plane: &ControlPlane) -> Result<()> {
        Self::apply(control_plane, Manifests::read()?.called_at(NOBODY)?).await
    }

    /// Applies the manifests, with webhooks that are called at this port.
    ///
    /// # Errors
    /// Fails if they cannot be applied.
    pub async fn register(control_plane: &ControlPlane, port: u16) -> Result<()> {
        Self::apply(control_plane, Manifests::read()?.called_at(port)?).await
    }

    /// Applies the manifests of the previous release. Objects that only the newer manifests have stay.
    ///
    /// # Errors
    /// Fails if they cannot be applied.
    pub async fn register_previous(
        control_plane: &ControlPlane,
        release: &PreviousRelease,
        port: u16,
    ) -> Result<()> {
        let manifests = Manifests::read_from(&release.manifests())?;
        Self::apply(control_plane, manifests.called_at(port)?).await
    }

    async fn apply(control_plane: &ControlPlane, manifests: Manifests) -> Result<()> {
        let directory = control_plane.dir().join("install");
        manifests.write(&directory)?;
        control_plane
            .kubectl(&["apply", "-k", &directory.display().to_string()])
            .await
            .map(drop)
    }

    /// Has all webhooks called at this port. The manifests have been applied. No kubectl does it, which takes a second of a
    /// processor for all of them.
    ///
    /// # Errors
    /// Fails if the API server refuses the patch.
    pub async fn call_at(control_plane: &ControlPlane, port: u16) -> Result<()> {
        calls::call_at(control_plane.client()?, port).await
    }

    /// Applies the manifests as an overlay of a user would, by another name and in another namespace, with webhooks that call
    /// no replica.
    ///
    /// # Errors
    /// Fails if they cannot be applied.
    pub async fn install_elsewhere(
        control_plane: &ControlPlane,
        namespace: &str,
        name: &str,
    ) -> Result<()> {
        let directory = control_plane.dir().join("install");
        Manifests::read()?.called_at(NOBODY)?.write(&directory)?;
        let overlay = control_plane.dir().join("elsewhere");
        let base = format!("../install/{}", manifests::BASE);
        manifests::write_overlay(&overlay, &base, namespace, name)?;
        control_plane
            .kubectl(&["apply", "-k", &overlay.display().to_string()])
            .await
            .map(drop)
    }

    /// Removes the objects of that name and namespace. Objects with a name of their own, such as the policies, stay.
    ///
    /// # Errors
    /// Fails if an object cannot be removed.
    pub async fn remove_elsewhere(
        control_plane: &ControlPlane,
        namespace: &str,
        name: &str,
    ) -> Result<()> {
        let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings,\
                     priorityclasses";
        for arguments in [[kinds, name], ["namespace", namespace]] {
            let delete = [&["delete", "--ignore-not-found"], &arguments[..]].concat();
            control_plane.kubectl(&delete).await?;
        }
        Ok(())
    }

    /// Starts one replica that reaches the API server as this kubeconfig says, and has the API server call it. The
    /// manifests have been applied. The binary that `cargo test` built is enough where only its behaviour counts.
    ///
    /// # Errors
    /// Fails if it does not become ready.
    pub async fn start_through(
        control_plane: &ControlPlane,
        binary: &Path,
        kubeconfig: &Path,
        flags: &[&str],
    ) -> Result<Self> {
        let command = Command::new(binary);
        let local = Self::spawn(control_plane, NAME, command, kubeconfig, flags)?;
        Self::call_at(control_plane, local.port).await?;
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

    /// Starts one replica by this command of its binary; its log has this name. No webhook calls it, and it may not be ready
    /// yet.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn spawn(
        control_plane: &ControlPlane,
        name: &str,
        mut command: Command,
        kubeconfig: &Path,
        flags: &[&str],
    ) -> Result<Self> {
        let (port, probe_port) = (free_port()?, free_port()?);
        ignore_proxies(&mut command);
        // Its log and its identity do not depend on the environment of the test.
        for variable in ["RUST_LOG", "POD_NAME", "POD_NAMESPACE"] {
            command.env_remove(variable);
        }
        command
            .arg("serve")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args([
                &format!("--listen=127.0.0.1:{port}"),
                &format!("--probe-listen=127.0.0.1:{probe_port}"),
                "--tls-san=127.0.0.1",
            ])
            .args(flags);
        if !flags.iter().any(|flag| flag.starts_with("--noop-image")) {
            command.arg(format!("--noop-image={LOCAL_IMAGE}"));
        }
        Ok(Self {
            process: Process::spawn(control_plane.run(), name, command)?,
            port,
            probe_port,
        })
    }

    /// Returns its answer to probes and scrapes: `/livez`, `/readyz`, `/metrics`.
    ///
    /// # Errors
    /// Fails if it does not answer with success.
    pub async fn get(&self, path: &str) -> Result<String> {
        let address = format!("http://127.0.0.1:{}", self.probe_port);
        let client = Client::try_from(Config::new(address.parse()?))?;
        Ok(client
            .request_text(http::Request::get(path).body(Vec::new())?)
            .await?)
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns the port on which it answers reviews.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the port on which it answers probes and scrapes.
    pub fn probe_port(&self) -> u16 {
        self.probe_port
    }
}
