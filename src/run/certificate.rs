//! The serving certificate: read from files, or signed by the CA that headstart keeps.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::replica::Replica;
use super::start_retry::until_answered;
use crate::ca_injector::CaInjector;
use crate::config::Config;
use crate::tls::ca::Validity;
use crate::tls::ca_controller::{self, CaController};
use crate::tls::files::CertFiles;
use crate::tls::{Lifetimes, Resolver};

/// The serving certificate, and whether callers trust it.
pub(super) struct Certificate {
    pub(super) tls: Arc<ServerConfig>,
    /// True while every `caBundle` carries the CA of the certificate.
    pub(super) registered: watch::Sender<bool>,
}

impl Certificate {
    /// Loads or signs the first certificate, and starts the tasks that replace it.
    pub(super) async fn start(
        replica: &Replica,
        config: &Config,
        lifetimes: Lifetimes,
    ) -> Result<Self> {
        let resolver = Arc::new(Resolver::default());
        let tls = resolver
            .clone()
            .server_config(config.tls.client_ca.as_ref())?;
        let files = config.tls.tls_cert.clone().zip(config.tls.tls_key.clone());
        let registered = match files {
            Some((cert, key)) => from_files(replica, resolver, cert, key)?,
            None => signed(replica, config, resolver, lifetimes).await?,
        };
        Ok(Self { tls, registered })
    }
}

/// Serves the certificate of these files, and watches them.
fn from_files(
    replica: &Replica,
    resolver: Arc<Resolver>,
    cert: PathBuf,
    key: PathBuf,
) -> Result<watch::Sender<bool>> {
    let files = CertFiles { cert, key };
    let (content, validity) = files.load(&resolver)?;
    let metrics = replica.metrics.clone();
    let report =
        move |validity: Validity| metrics.certificate_expires(validity.until.unix_timestamp());
    report(validity);
    let reload = files.watch(content, resolver, report);
    replica.supervisor.spawn("certificate reloader", reload);
    // The owner of the files registers their CA too.
    Ok(watch::Sender::new(true))
}

/// Signs a certificate with the CA in the Secret, and starts the tasks that renew it and keep the CA registered.
async fn signed(
    replica: &Replica,
    config: &Config,
    resolver: Arc<Resolver>,
    lifetimes: Lifetimes,
) -> Result<watch::Sender<bool>> {
    let trusted = watch::Sender::default();
    let bundle = watch::Sender::default();
    let registered = watch::Sender::new(false);
    let ca_injector = CaInjector {
        name: config.tls.webhook_configuration.clone(),
        retry: lifetimes.check_interval(),
        leading: replica.leading.subscribe(),
        bundle: bundle.subscribe(),
        gate: replica.gate.clone(),
        trusted: trusted.clone(),
    };
    let namespace = replica.namespace.clone();
    let host = format!("{}.{namespace}.svc", config.installation.service);
    let settings = ca_controller::CaSettings {
        namespace,
        secret: config.tls.ca_secret.clone(),
        names: [vec![host], config.tls.tls_san.clone()].concat(),
        lifetimes,
    };
    let channels = ca_controller::Channels {
        leading: replica.leading.subscribe(),
        trusted: trusted.subscribe(),
        bundle,
        registered: registered.clone(),
    };
    let (client, clock) = (replica.client.clone(), replica.clock.clone());
    let metrics = replica.metrics.clone();
    let (supervisor, injecting) = (&replica.supervisor, ca_injector.run(client.clone()));
    supervisor.spawn("CA injector", injecting);
    let mut ca_controller = CaController::new(client, settings, clock, resolver, metrics, channels);
    until_answered("no serving certificate", async || {
        ca_controller.start().await
    })
    .await?;
    supervisor.spawn("CA controller", ca_controller.run());
    Ok(registered)
}
