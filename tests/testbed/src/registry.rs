//! A registry for the images of real nodes, over plain HTTP on loopback.
//!
//! Each node dials it at an address of its own, so it can tell nodes apart: it counts what each asks for, and
//! gives each its own bandwidth.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use http::Request;
use kube::{Client, Config};
use serde::Deserialize;

use crate::assets::Assets;
use crate::control_plane::free_port;
use crate::image::Image;
use crate::process::{Process, READY_LIMIT, Wait, output, without_proxies};
use crate::run_dir::{MARKER, RunDir};

/// A user name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
}

/// The requests of one node for one object of the registry.
#[derive(Clone, Debug, Deserialize)]
pub struct RegistryRequest {
    /// The address that was dialled: `127.0.0.10` for node-0's successor `node-1`, and so on; see [`node_address`].
    pub node: String,
    /// The HTTP method.
    pub method: String,
    /// The repository.
    pub repository: String,
    /// `manifests` or `blobs`.
    pub kind: String,
    /// A tag or a digest.
    pub reference: String,
    /// The number of requests.
    pub count: u64,
    /// Bytes of the answers' bodies.
    pub bytes: u64,
    /// The time of the first request, by the wall clock (RFC 3339).
    pub first: String,
    /// The time at which the last answer ended.
    pub last: String,
}

/// A running registry. Dropping it ends it.
#[derive(Debug)]
pub struct Registry {
    process: Option<Process>,
    launch: Launch,
}

/// The data to start it, again too.
#[derive(Debug)]
struct Launch {
    assets: Assets,
    port: u16,
    nodes: usize,
    directory: PathBuf,
    credentials: Option<Credentials>,
    name: String,
}

/// The loopback address at which a node, counted from 1, finds the registries.
pub fn node_address(node: usize) -> String {
    format!("127.0.0.{}", 10 + node)
}

impl Registry {
    /// Starts one that this many nodes can reach; with credentials, it wants them for everything.
    pub(crate) async fn start(
        assets: &Assets,
        run: &RunDir,
        name: &str,
        nodes: usize,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let launch = Launch {
            assets: assets.clone(),
            port: free_port()?,
            nodes,
            directory: run.path().join(name),
            credentials,
            name: name.to_owned(),
        };
        let mut registry = Self {
            process: None,
            launch,
        };
        registry.switch_on(run).await?;
        Ok(registry)
    }

    /// Starts it, or starts it again with the images it had.
    pub(crate) async fn switch_on(&mut self, run: &RunDir) -> Result<()> {
        let Launch {
            assets,
            port,
            nodes,
            directory,
            credentials,
            name,
        } = &self.launch;
        let mut command = without_proxies(assets.tools());
        command.arg("registry").arg("--data-dir").arg(directory);
        let addresses = (1..=*nodes).map(node_address);
        for address in std::iter::once("127.0.0.1".to_owned()).chain(addresses) {
            command.arg(format!("--listen={address}:{port}"));
        }
        if let Some(Credentials { username, password }) = credentials {
            command.arg(format!("--username={username}"));
            command.arg(format!("--password={password}"));
        }
        let process = Process::spawn(run, name, command)?;
        let wait = Wait::new(
            format!("the registry ({})", process.log().display()),
            READY_LIMIT,
        );
        while self.requests().await.is_err() {
            process.check_alive()?;
            wait.pause().await?;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Ends it; its images are kept for when it is switched on again.
    pub fn switch_off(&mut self) {
        self.process = None;
    }

    /// `127.0.0.1:PORT`: what image references begin with, on every node.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.launch.port)
    }

    /// The credentials it wants.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.launch.credentials.as_ref()
    }

    pub(crate) fn port(&self) -> u16 {
        self.launch.port
    }

    /// Builds an image and pushes it as this repository and tag (`shop/web:v1`); returns its whole reference.
    ///
    /// # Errors
    /// Fails if a file of it cannot be read, or the registry is switched off.
    pub async fn push(&self, name: &str, image: &Image) -> Result<String> {
        let reference = format!("{}/{name}", self.address());
        let mut command =
            tokio::process::Command::from(without_proxies(self.launch.assets.tools()));
        if let Some(run) = self.launch.directory.parent() {
            command.env(MARKER, run);
        }
        command.arg("image");
        let description = image.description(&reference, self.credentials());
        output(command, description.to_string().as_bytes())
            .await
            .with_context(|| format!("push {reference}"))?;
        Ok(reference)
    }

    /// Returns the requests of nodes since the start, or since [`Self::forget_requests`].
    ///
    /// # Errors
    /// Fails if it is switched off.
    pub async fn requests(&self) -> Result<Vec<RegistryRequest>> {
        let requests = self.call("GET", "/testbed/requests").await?;
        Ok(serde_json::from_str(&requests)?)
    }

    /// Counts from zero again.
    ///
    /// # Errors
    /// Fails if it is switched off.
    pub async fn forget_requests(&self) -> Result<()> {
        self.call("DELETE", "/testbed/requests").await.map(drop)
    }

    /// Limits what each node gets, in bytes per second; 0 for no limit.
    ///
    /// # Errors
    /// Fails if it is switched off.
    pub async fn limit_bandwidth(&self, bytes_per_second: u64) -> Result<()> {
        for node in 1..=self.launch.nodes {
            let address = node_address(node);
            let path =
                format!("/testbed/bandwidth?node={address}&bytes-per-second={bytes_per_second}");
            self.call("PUT", &path).await?;
        }
        Ok(())
    }

    async fn call(&self, method: &str, path: &str) -> Result<String> {
        let client = Client::try_from(Config::new(format!("http://{}", self.address()).parse()?))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Vec::new())?;
        Ok(client.request_text(request).await?)
    }

    pub(crate) fn leave(&self) {
        if let Some(process) = &self.process {
            process.leave();
        }
    }
}
