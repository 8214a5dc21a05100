//! Keeps this replica's leaf fresh and, on the leader, the Secret with the CA.
//!
//! Every replica follows the Secret by a watch and signs its leaf with the CA in it. Before it signs, it reads the Secret
//! again, so that the expiry of a CA's last leaf is known. While the old leaf is valid, it signs only with a CA that every
//! `caBundle` carries.

use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tracing::{error, info, warn};

use super::ca::Validity;
use super::ca_secret::{CaSecret, SecretMeta, SecretState};
use super::trust::{CaState, TrustedRoots};
use super::{Ca, Lifetimes, Resolver, TlsError};
use crate::clock::Clock;
use crate::metrics::Metrics;

mod rotation;

/// The settings of the CA controller.
#[derive(Clone, Debug)]
pub struct CaSettings {
    /// headstart's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The names in the leaf.
    pub names: Vec<String>,
    /// The lifetimes of certificates.
    pub lifetimes: Lifetimes,
}

/// The channels between the CA controller and the CA injector.
#[derive(Debug)]
pub struct Channels {
    /// True while this replica leads.
    pub leading: watch::Receiver<bool>,
    /// The certificates in every `caBundle`, as far as it was read back.
    pub trusted: watch::Receiver<TrustedRoots>,
    /// The content for every `caBundle`.
    pub bundle: watch::Sender<Option<String>>,
    /// True if callers trust the leaf that is served.
    pub registered: watch::Sender<bool>,
}

/// The leaf that is served.
struct ServingCert {
    issuer: Arc<Ca>,
    validity: Validity,
}

/// Renews one replica's certificate.
pub struct CaController {
    secret: CaSecret,
    settings: CaSettings,
    clock: Clock,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
    channels: Channels,
    secret_state: SecretState,
    serving: Option<ServingCert>,
    /// The next CA, and the time since which every `caBundle` carries it.
    published: Option<(Arc<Ca>, Instant)>,
}

impl CaController {
    /// Returns a controller that serves nothing yet.
    pub fn new(
        client: Client,
        settings: CaSettings,
        clock: Clock,
        resolver: Arc<Resolver>,
        metrics: Arc<Metrics>,
        channels: Channels,
    ) -> Self {
        Self {
            secret: CaSecret::new(client, &settings.namespace, &settings.secret),
            settings,
            clock,
            resolver,
            metrics,
            channels,
            secret_state: SecretState::Absent,
            serving: None,
            published: None,
        }
    }

    /// Reads the CA, or makes the first one, and serves a leaf. If several replicas start at once, one creates the Secret and
    /// the others read it. May be repeated after an error.
    pub async fn start(&mut self) -> Result<(), TlsError> {
        self.read().await?;
        if matches!(self.secret_state, SecretState::Absent) {
            let trust = CaState::generate(self.clock.now(), &self.settings.lifetimes)?;
            if self.write(SecretMeta::default(), trust).await? {
                info!(secret = %self.secret.name(), "made a CA");
            } else {
                self.read().await?;
            }
        }
        self.reconcile().await
    }

    /// Runs until the process ends.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(self.settings.lifetimes.check_interval());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = std::pin::pin!(self.secret.watch());
        loop {
            let propagation = self.settings.lifetimes.propagation();
            let settled = self
                .published
                .as_ref()
                .map(|(_, since)| *since + propagation);
            let settled = settled.filter(|settled| *settled > Instant::now());
            tokio::select! {
                Some(change) = changes.next() => match change {
                    Ok(secret) => {
                        self.secret_state = secret;
                        self.log_secret_state();
                    }
                    Err(error) => {
                        warn!(secret = %self.secret.name(), %error, "cannot watch the Secret with the CA");
                        continue;
                    }
                },
                // Fails only without senders, when the process ends.
                Ok(()) = self.channels.leading.changed() => {}
                Ok(()) = self.channels.trusted.changed() => {}
                _ = tick.tick() => {}
                // The next CA has been in every caBundle for long enough.
                () = sleep_until(settled.unwrap_or_else(Instant::now)), if settled.is_some() => {}
            }
            if let Err(error) = self.reconcile().await {
                let error = anyhow::Error::from(error);
                error!(error = %format_args!("{error:#}"), "cannot look after the certificates; trying again");
            }
        }
    }

    fn log_secret_state(&self) {
        match &self.secret_state {
            SecretState::Valid(..) => {}
            SecretState::Absent => {
                warn!(secret = %self.secret.name(), "the Secret with the CA is gone; the leader writes it anew");
            }
            SecretState::Invalid(_) => {
                warn!(secret = %self.secret.name(), "the Secret with the CA holds none that can be used; the leader writes it anew");
            }
        }
    }

    /// Takes the steps that are due now.
    async fn reconcile(&mut self) -> Result<(), TlsError> {
        if *self.channels.leading.borrow() {
            self.reconcile_secret().await?;
        }
        if self.needs_new_leaf() {
            // The Secret of the watch may be old, and a leaf of a retired CA would outlive the trust in it.
            self.read().await?;
            if self.needs_new_leaf() {
                self.sign()?;
            }
        }
        if let SecretState::Valid(_, trust) = &self.secret_state {
            let bundle = Some(trust.bundle());
            self.channels.bundle.send_if_modified(|current| {
                let differs = *current != bundle;
                *current = bundle;
                differs
            });
            self.metrics
                .ca_expires(trust.current.validity().until.unix_timestamp());
        }
        let now = self.clock.now();
        let trusted = self.channels.trusted.borrow_and_update();
        let registered = self.serving.as_ref().is_some_and(|leaf| {
            leaf.validity.is_valid_at(now) && trusted.contains(leaf.issuer.cert())
        });
        drop(trusted);
        self.channels.registered.send_if_modified(|current| {
            let differs = *current != registered;
            *current = registered;
            differs
        });
        Ok(())
    }

    fn needs_new_leaf(&self) -> bool {
        let SecretState::Valid(_, trust) = &self.secret_state else {
            return false;
        };
        let now = self.clock.now();
        let Some(leaf) = &self.serving else {
            return true;
        };
        if !leaf.validity.is_valid_at(now) {
            return trust.current.validity().is_valid_at(now);
        }
        if leaf.issuer.cert() != trust.current.cert() {
            let trusted = self.channels.trusted.borrow();
            return trusted.contains(trust.current.cert());
        }
        leaf.validity
            .needs_renewal(now, self.settings.lifetimes.leaf)
            // The last leaf of a CA ends with the CA, and so would another one.
            && leaf.validity.until < trust.current.validity().until
    }

    fn sign(&mut self) -> Result<(), TlsError> {
        let SecretState::Valid(_, trust) = &self.secret_state else {
            return Ok(());
        };
        let CaSettings {
            names, lifetimes, ..
        } = &self.settings;
        let now = self.clock.now();
        if let Some(old) = &self.serving
            && !old.validity.is_valid_at(now)
        {
            warn!(expired = %old.validity.until, "the serving certificate is not valid any more; signing another");
        }
        let leaf = trust.current.issue(names, now, lifetimes.leaf)?;
        self.resolver.serve(&leaf)?;
        let validity = leaf.validity;
        self.metrics
            .certificate_expires(validity.until.unix_timestamp());
        info!(expires = %validity.until, "serving a new certificate");
        self.serving = Some(ServingCert {
            issuer: trust.current.clone(),
            validity,
        });
        Ok(())
    }

    async fn read(&mut self) -> Result<(), TlsError> {
        self.secret_state = self.secret.read().await?;
        Ok(())
    }

    /// Writes the Secret if it is still the one that was seen, or still absent. Returns whether it was.
    async fn write(&mut self, meta: SecretMeta, trust: CaState) -> Result<bool, TlsError> {
        let written = self.secret.write(meta, trust).await?;
        Ok(written.map(|state| self.secret_state = state).is_some())
    }
}
