//! Keeps this replica's leaf fresh and, on the leader, the Secret with the CA.
//!
//! Every replica follows the Secret by a watch and signs its leaf with the CA in it. A leaf is signed only with what
//! the Secret holds at that very moment, so that "its last leaf has expired" can be said of a CA; and, while another
//! leaf is good, only with a CA that every `caBundle` already carries.

use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tracing::{error, info, warn};

use super::authority::Validity;
use super::store::{Shell, Store, Stored};
use super::trust::{Trust, Trusted};
use super::{Authority, Lifetimes, Resolver, TlsError};
use crate::clock::Clock;
use crate::metrics::Metrics;

mod rotation;

/// What the keeper is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// headstart's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// What the leaf is made out to.
    pub names: Vec<String>,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
}

/// Where the keeper and the registration of the webhook meet.
#[derive(Debug)]
pub struct Channels {
    /// Whether this replica leads.
    pub leading: watch::Receiver<bool>,
    /// What every `caBundle` carries, as far as it was read back.
    pub trusted: watch::Receiver<Trusted>,
    /// What every `caBundle` is to be.
    pub bundle: watch::Sender<Option<String>>,
    /// Whether callers trust the leaf that is served.
    pub registered: watch::Sender<bool>,
}

/// The leaf that is served.
struct Served {
    issuer: Arc<Authority>,
    validity: Validity,
}

/// Looks after one replica's certificate.
pub struct Keeper {
    store: Store,
    settings: Settings,
    clock: Clock,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
    channels: Channels,
    stored: Stored,
    served: Option<Served>,
    /// Since when every `caBundle` carries the next CA, and which.
    published: Option<(Arc<Authority>, Instant)>,
}

impl Keeper {
    /// Reads the CA, or makes the first one, and serves a leaf. Of replicas that start at once, one creates the
    /// Secret and the others read it.
    pub async fn start(
        client: Client,
        settings: Settings,
        clock: Clock,
        resolver: Arc<Resolver>,
        metrics: Arc<Metrics>,
        channels: Channels,
    ) -> Result<Self, TlsError> {
        let mut keeper = Self {
            store: Store::new(client, &settings.namespace, &settings.secret),
            settings,
            clock,
            resolver,
            metrics,
            channels,
            stored: Stored::Absent,
            served: None,
            published: None,
        };
        keeper.read().await?;
        if matches!(keeper.stored, Stored::Absent) {
            let trust = Trust::generate(keeper.clock.now(), &keeper.settings.lifetimes)?;
            if keeper.write(Shell::default(), trust).await? {
                info!(secret = %keeper.store.name(), "made a CA");
            } else {
                keeper.read().await?;
            }
        }
        keeper.turn().await?;
        Ok(keeper)
    }

    /// Goes on until the process ends.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(self.settings.lifetimes.check_interval());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = std::pin::pin!(self.store.follow());
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
                        self.stored = secret;
                        self.complain();
                    }
                    Err(error) => {
                        warn!(secret = %self.store.name(), %error, "cannot watch the Secret with the CA");
                        continue;
                    }
                },
                // Ends only with those who send, and so with the process.
                Ok(()) = self.channels.leading.changed() => {}
                Ok(()) = self.channels.trusted.changed() => {}
                _ = tick.tick() => {}
                // The next CA has been in every caBundle for long enough.
                () = sleep_until(settled.unwrap_or_else(Instant::now)), if settled.is_some() => {}
            }
            if let Err(error) = self.turn().await {
                let error = anyhow::Error::from(error);
                error!(error = %format_args!("{error:#}"), "cannot look after the certificates; trying again");
            }
        }
    }

    fn complain(&self) {
        match &self.stored {
            Stored::Good(..) => {}
            Stored::Absent => {
                warn!(secret = %self.store.name(), "the Secret with the CA is gone; the leader writes it anew");
            }
            Stored::Garbage(_) => {
                warn!(secret = %self.store.name(), "the Secret with the CA holds none that can be used; the leader writes it anew");
            }
        }
    }

    /// Does what is to be done now.
    async fn turn(&mut self) -> Result<(), TlsError> {
        if *self.channels.leading.borrow() {
            self.lead().await?;
        }
        if self.must_sign() {
            // What the watch brought may be old, and a leaf of a CA that is retired by now would outlive its trust.
            self.read().await?;
            if self.must_sign() {
                self.sign()?;
            }
        }
        if let Stored::Good(_, trust) = &self.stored {
            let bundle = Some(trust.bundle());
            self.channels.bundle.send_if_modified(|current| {
                let differs = *current != bundle;
                *current = bundle;
                differs
            });
            self.metrics
                .authority_expires(trust.current.validity().until.unix_timestamp());
        }
        let now = self.clock.now();
        let trusted = self.channels.trusted.borrow_and_update();
        let registered = self.served.as_ref().is_some_and(|leaf| {
            leaf.validity.holds_at(now) && trusted.contains(leaf.issuer.cert())
        });
        drop(trusted);
        self.channels.registered.send_if_modified(|current| {
            let differs = *current != registered;
            *current = registered;
            differs
        });
        Ok(())
    }

    fn must_sign(&self) -> bool {
        let Stored::Good(_, trust) = &self.stored else {
            return false;
        };
        let now = self.clock.now();
        let Some(leaf) = &self.served else {
            return true;
        };
        if !leaf.validity.holds_at(now) {
            return trust.current.validity().holds_at(now);
        }
        if leaf.issuer.cert() != trust.current.cert() {
            let trusted = self.channels.trusted.borrow();
            return trusted.contains(trust.current.cert());
        }
        leaf.validity
            .is_half_over(now, self.settings.lifetimes.leaf)
            // The last leaf of a CA ends with it, and so would another one.
            && leaf.validity.until < trust.current.validity().until
    }

    fn sign(&mut self) -> Result<(), TlsError> {
        let Stored::Good(_, trust) = &self.stored else {
            return Ok(());
        };
        let Settings {
            names, lifetimes, ..
        } = &self.settings;
        let now = self.clock.now();
        if let Some(old) = &self.served
            && !old.validity.holds_at(now)
        {
            warn!(expired = %old.validity.until, "the serving certificate is not valid any more; signing another");
        }
        let leaf = trust.current.issue(names, now, lifetimes.leaf)?;
        self.resolver.serve(&leaf)?;
        let validity = leaf.validity;
        self.metrics
            .certificate_expires(validity.until.unix_timestamp());
        info!(expires = %validity.until, "serving a new certificate");
        self.served = Some(Served {
            issuer: trust.current.clone(),
            validity,
        });
        Ok(())
    }

    async fn read(&mut self) -> Result<(), TlsError> {
        self.stored = self.store.read().await?;
        Ok(())
    }

    /// Writes the Secret if it is still the one that was seen, or still absent; whether it was.
    async fn write(&mut self, shell: Shell, trust: Trust) -> Result<bool, TlsError> {
        let written = self.store.write(shell, trust).await?;
        Ok(written.map(|stored| self.stored = stored).is_some())
    }
}
