//! The ways into a control plane: clients, kubeconfigs, kubectl, and what can be read about it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{AuditEvent, Component, ControlPlane, files};
use crate::process::{Process, output, without_proxies};
use crate::run_dir::{MARKER, RunDir};

/// The lifetime of the token of a ServiceAccount's kubeconfig: longer than any run.
const TOKEN_SECONDS: i64 = 24 * 3600;

impl ControlPlane {
    /// A client with all rights, for the runtime that it is called in.
    ///
    /// # Errors
    /// Fails if the run's files are gone.
    pub fn client(&self) -> Result<Client> {
        let mut config = self.client_config()?;
        config.auth_info = AuthInfo {
            token: Some(self.admin_token.clone().into()),
            ..AuthInfo::default()
        };
        Ok(Client::try_from(config)?)
    }

    /// Returns the configuration of a client for the API server, without credentials.
    ///
    /// # Errors
    /// Fails if the run's files are gone.
    pub fn client_config(&self) -> Result<Config> {
        // The first to install one wins, and it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = Config::new(self.server().parse()?);
        let authority = CertificateDer::from_pem_slice(self.authority()?.as_bytes())?;
        config.root_cert = Some(vec![authority.to_vec()]);
        Ok(config)
    }

    /// The administrator's token.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The API server's certificate authority, in PEM.
    ///
    /// # Errors
    /// Fails if the run's files are gone.
    pub fn authority(&self) -> Result<String> {
        let path = self.layout.file("ca.crt");
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// The API server's URL.
    pub fn server(&self) -> String {
        self.layout.server()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig that acts as a ServiceAccount.
    ///
    /// # Errors
    /// Fails if the ServiceAccount does not exist.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec,
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        let token = answer
            .status
            .context("the API server returned no token")?
            .token;
        let path = self.layout.file(&format!("{namespace}-{name}.kubeconfig"));
        fs::write(
            &path,
            files::kubeconfig(&self.server(), &self.layout.file("ca.crt"), name, &token),
        )?;
        Ok(path)
    }

    /// Runs kubectl as the administrator; returns its output.
    ///
    /// # Errors
    /// Fails if kubectl fails, with its message.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "").await
    }

    /// Runs kubectl as the administrator, with this on its standard input (for `-f -`).
    ///
    /// # Errors
    /// Fails if kubectl fails, with its message.
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command =
            tokio::process::Command::from(without_proxies(self.layout.assets.kubectl()));
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env(MARKER, self.dir());
        output(command, input.as_bytes()).await
    }

    /// The API server's own metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// Fails if the API server does not answer.
    pub async fn metrics(&self) -> Result<String> {
        Ok(self.client()?.request_text(get("/metrics")?).await?)
    }

    /// The requests that the API server has answered so far, without watches and reads that still run; needs
    /// [`super::Options::audit`]. Of the whole log, which may be long, only what names `part` is read: a namespace, a user.
    ///
    /// # Errors
    /// Without an audit log.
    pub fn audit_events(&self, part: &str) -> Result<Vec<AuditEvent>> {
        files::audit_events(&self.layout.file("audit.log"), part).context(
            "there is no audit log: start the control plane with Options { audit: true, .. }",
        )
    }

    /// The log of a component.
    pub fn log(&self, component: Component) -> PathBuf {
        self.layout.file(&format!("log/{}.log", component.name()))
    }

    /// The directory of the run: logs, keys, kubeconfigs. Gone when it ends.
    pub fn dir(&self) -> &Path {
        self.run.path()
    }

    pub(crate) fn run(&self) -> &RunDir {
        &self.run
    }

    /// Leaves every component running when this is dropped.
    pub(crate) async fn leave(&self) {
        self.processes().values().for_each(Process::leave);
        if let Some(kwok) = self.kwok.lock().await.as_ref() {
            kwok.process.leave();
        }
    }

    pub(crate) fn assets(&self) -> &crate::assets::Assets {
        &self.layout.assets
    }
}

/// A GET of a path of the API server.
pub(super) fn get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}
