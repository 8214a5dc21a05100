//! etcd, an API server, the controller manager and the scheduler, on loopback, without root.

mod access;
mod components;
mod files;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;

pub use components::Component;
use components::Layout;
pub(crate) use components::{SERVICE_ADDRESS, free_port};
pub(crate) use files::kubeconfig;

use crate::assets::Assets;
use crate::fake_nodes::Kwok;
use crate::process::{Process, READY_LIMIT, Wait, random_hex};
use crate::run_dir::RunDir;

/// The number of starts in all. Everything is started anew when another process took a port before its use.
const ATTEMPTS: usize = 5;
/// The text that a component logs when its port is taken.
const PORT_TAKEN: &str = "address already in use";

/// The options of a control plane.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Write an audit log, for [`ControlPlane::audit_events`].
    pub audit: bool,
    /// More flags for the API server.
    pub api_server_arguments: Vec<String>,
}

/// One request that the API server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields of an audit event, see the API reference of audit.k8s.io/v1"
)]
pub struct AuditEvent {
    pub verb: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub user: String,
    pub user_agent: String,
    pub code: u64,
    pub time: String,
}

/// A running control plane. Dropping it ends it, and so does the end of this process.
#[derive(Debug)]
pub struct ControlPlane {
    /// Std locks: held for the few system calls that start or end a process. Declared, and so dropped, before
    /// the directory.
    processes: Mutex<BTreeMap<Component, Process>>,
    pub(crate) kwok: tokio::sync::Mutex<Option<Kwok>>,
    layout: Layout,
    admin_token: String,
    kubeconfig: PathBuf,
    run: RunDir,
}

impl ControlPlane {
    /// Starts one and waits until it serves.
    ///
    /// # Errors
    /// Fails if a component does not become ready; the end of its log is in the message.
    pub async fn start(options: Options) -> Result<Self> {
        let assets = tokio::task::spawn_blocking(Assets::control_plane).await??;
        let run = RunDir::create(&assets)?;
        Self::start_in(assets, run, options, 0).await
    }

    /// With real nodes it listens where their pods reach it, and knows a token of each node.
    pub(crate) async fn start_in(
        assets: Assets,
        run: RunDir,
        options: Options,
        real_nodes: usize,
    ) -> Result<Self> {
        let admin_token = write_inputs(&run, real_nodes)?;
        let layout = Layout::new(&assets, &run, options.clone(), real_nodes > 0)?;
        let kubeconfig = run.path().join("admin.kubeconfig");
        let mut control_plane = Self {
            processes: Mutex::default(),
            kwok: tokio::sync::Mutex::default(),
            layout,
            admin_token,
            kubeconfig,
            run,
        };
        for _ in 0..ATTEMPTS {
            match control_plane.start_all().await {
                Err(_) if control_plane.port_was_taken() => {
                    control_plane.processes().clear();
                    for leftover in ["etcd", "log"] {
                        let leftover = control_plane.layout.file(leftover);
                        // etcd makes its directory when it has its ports.
                        if leftover.exists() {
                            fs::remove_dir_all(leftover)?;
                        }
                    }
                    fs::create_dir(control_plane.layout.file("log"))?;
                    control_plane.layout =
                        Layout::new(&assets, &control_plane.run, options.clone(), real_nodes > 0)?;
                }
                started => return started.map(|()| control_plane),
            }
        }
        bail!("{ATTEMPTS} times a port was taken before it could be used")
    }

    async fn start_all(&self) -> Result<()> {
        for component in Component::ALL {
            self.start_component(component).await?;
        }
        self.takes_pods("default").await
    }

    /// Waits until pods can be created in a namespace that may be new.
    ///
    /// # Errors
    /// Fails if that does not become possible in time.
    pub async fn takes_pods(&self, namespace: &str) -> Result<()> {
        // Pods are refused until their namespace's ServiceAccount exists, and need the authority to reach the server.
        let what = format!("the controller manager to create {namespace}'s ServiceAccount");
        let wait = Wait::new(what, READY_LIMIT);
        let client = self.client()?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let authorities: Api<ConfigMap> = Api::namespaced(client, namespace);
        while accounts.get_opt("default").await?.is_none()
            || authorities.get_opt("kube-root-ca.crt").await?.is_none()
        {
            self.check_alive()?;
            wait.pause().await?;
        }
        Ok(())
    }

    /// Starts a component that was stopped. Waits until the API server is ready, if that is the one.
    ///
    /// # Errors
    /// Fails if it does not become ready.
    pub async fn start_component(&self, component: Component) -> Result<()> {
        let process = Process::spawn(&self.run, component.name(), self.layout.command(component))?;
        self.processes().insert(component, process);
        if component == Component::ApiServer {
            self.api_server_ready().await
        } else {
            Ok(())
        }
    }

    /// Kills a component.
    pub fn stop_component(&self, component: Component) {
        self.processes().remove(&component);
    }

    /// Kills a component and starts it again.
    ///
    /// # Errors
    /// Fails if it does not become ready.
    pub async fn restart(&self, component: Component) -> Result<()> {
        self.stop_component(component);
        self.start_component(component).await
    }

    async fn api_server_ready(&self) -> Result<()> {
        let wait = Wait::new(
            format!(
                "the API server ({})",
                self.log(Component::ApiServer).display()
            ),
            READY_LIMIT,
        );
        let serving = self.layout.file("pki/apiserver.crt");
        // The key is written after the certificate: both are whole when it is there.
        while !self.layout.file("pki/apiserver.key").exists() {
            self.check_alive()?;
            wait.pause().await?;
        }
        fs::write(self.layout.file("ca.crt"), files::authority(&serving)?)?;
        let content = kubeconfig(
            &self.server(),
            &self.layout.file("ca.crt"),
            "admin",
            &self.admin_token,
        );
        fs::write(&self.kubeconfig, content)?;
        let client = self.client()?;
        loop {
            let ready = client.request_text(access::get("/readyz")?).await;
            if ready.is_ok() {
                return Ok(());
            }
            self.check_alive()?;
            wait.pause().await?;
        }
    }

    fn port_was_taken(&self) -> bool {
        self.processes()
            .values()
            .any(|process| process.check_alive().is_err() && process.log_contains(PORT_TAKEN))
    }

    /// An error with the end of a log, if one of the components has ended by itself.
    pub(crate) fn check_alive(&self) -> Result<()> {
        self.processes().values().try_for_each(Process::check_alive)
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<Component, Process>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the files that are there before the first component starts; returns the administrator's token.
fn write_inputs(run: &RunDir, real_nodes: usize) -> Result<String> {
    let file = |name: &str| run.path().join(name);
    files::write_service_account_keys(run.path())?;
    fs::write(file("audit-policy.yaml"), files::audit_policy())?;
    let admin = random_hex()?;
    let mut tokens = format!("{admin},admin,admin,system:masters\n");
    for node in 1..=real_nodes {
        let token = random_hex()?;
        fs::write(file(&format!("node-{node}.token")), &token)?;
        tokens += &format!("{token},system:node:node-{node},node-{node},system:nodes\n");
    }
    fs::write(file("tokens.csv"), tokens)?;
    Ok(admin)
}
