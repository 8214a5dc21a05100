//! The webhooks' registration: the leader keeps the CAs in every `caBundle`, and every replica watches the configurations.
//! Nothing here deletes a configuration; only `headstart uninstall` does.

mod bundle;

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::PatchParams;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{info, warn};

use crate::hold_gate::HoldGate;
use crate::tls::trust::TrustedRoots;
use crate::watch_stream::{Spread, watch_stream};
use bundle::Configuration;

/// The limit for one answer of the API server.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// The CA injector and its settings.
#[derive(Debug)]
pub(crate) struct CaInjector {
    /// The name of both configurations.
    pub name: String,
    /// The interval at which a failed write is repeated.
    pub retry: Duration,
    /// True while this replica leads.
    pub leading: watch::Receiver<bool>,
    /// The content for every `caBundle`.
    pub bundle: watch::Receiver<Option<String>>,
    /// Closed while the configuration of the mutating webhooks is deleted.
    pub gate: HoldGate,
    /// The certificates in every `caBundle`.
    pub trusted: watch::Sender<TrustedRoots>,
}

/// The last seen state of a configuration.
enum ConfigState<K> {
    Unknown,
    Absent,
    Present(Box<K>),
}

impl<K: Configuration> ConfigState<K> {
    /// Returns the certificates that the callers of its webhooks trust; `None` if there are no callers.
    fn trusted(&self) -> Option<TrustedRoots> {
        match self {
            Self::Unknown => Some(TrustedRoots::default()),
            Self::Absent => None,
            Self::Present(configuration) => Some(TrustedRoots::by_all(
                configuration
                    .bundles()
                    .into_iter()
                    .map(|bundle| TrustedRoots::of(bundle.unwrap_or_default())),
            )),
        }
    }
}

impl CaInjector {
    /// Runs until the process ends.
    pub(crate) async fn run(self, client: Client) {
        let Self {
            name,
            retry,
            mut leading,
            mut bundle,
            gate,
            trusted,
        } = self;
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(client);
        let mut mutating_changes = pin!(watch(&mutating, &name));
        let mut validating_changes = pin!(watch(&validating, &name));
        let mut seen = (ConfigState::Unknown, ConfigState::Unknown);
        let mut tick = tokio::time::interval(retry);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(change) = mutating_changes.next() => if !observe(&name, change, &mut seen.0) { continue },
                Some(change) = validating_changes.next() => if !observe(&name, change, &mut seen.1) { continue },
                // Fails only without senders, when the process ends.
                Ok(()) = leading.changed() => {}
                Ok(()) = bundle.changed() => {}
                // Repeats a failed write, which no change follows.
                _ = tick.tick() => {}
            }
            gate.set_unregistered(matches!(seen.0, ConfigState::Absent));
            let now = match &seen.0 {
                // Without this configuration headstart is not called, and the replica must not be ready.
                ConfigState::Absent => TrustedRoots::default(),
                _ => {
                    TrustedRoots::by_all([seen.0.trusted(), seen.1.trusted()].into_iter().flatten())
                }
            };
            trusted.send_if_modified(|current| {
                let differs = *current != now;
                *current = now;
                differs
            });
            let due = bundle.borrow().clone().filter(|_| *leading.borrow());
            if let Some(bundle) = due {
                inject(&mutating, &name, &mut seen.0, bundle.as_bytes()).await;
                inject(&validating, &name, &mut seen.1, bundle.as_bytes()).await;
            }
        }
    }
}

fn watch<K: Configuration>(
    api: &Api<K>,
    name: &str,
) -> impl Stream<Item = watcher::Result<Option<K>>> + use<K> {
    let (api, name) = (api.clone(), name.to_owned());
    watch_stream(move || watch_object(api.clone(), &name), Spread::random())
}

/// Records a change. Returns whether there was one.
fn observe<K: Configuration>(
    name: &str,
    change: watcher::Result<Option<K>>,
    seen: &mut ConfigState<K>,
) -> bool {
    match change {
        Ok(Some(configuration)) => *seen = ConfigState::Present(Box::new(configuration)),
        Ok(None) => {
            warn!(%name, kind = %K::kind(&()), "there is no such webhook configuration; apply the manifests");
            *seen = ConfigState::Absent;
        }
        Err(error) => {
            warn!(%name, kind = %K::kind(&()), %error, "cannot watch the webhook configuration");
            return false;
        }
    }
    true
}

/// Writes the bundle if it is not there, and if the configuration is still the one that was seen.
async fn inject<K: Configuration>(
    api: &Api<K>,
    name: &str,
    seen: &mut ConfigState<K>,
    bundle: &[u8],
) {
    let ConfigState::Present(configuration) = seen else {
        return;
    };
    if configuration
        .bundles()
        .iter()
        .all(|current| *current == Some(bundle))
    {
        return;
    }
    let kind = K::kind(&());
    let params = PatchParams::default();
    let patch = configuration.patch(bundle);
    match timeout(API_TIMEOUT, api.patch(name, &params, &patch)).await {
        // The watch brings the change too: only a bundle that was read back counts as published.
        Ok(Ok(_)) => info!(%name, %kind, "wrote the CA into the webhook configuration"),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409 | 422) => {
            info!(%name, %kind, "the webhook configuration changed meanwhile; looking again");
        }
        Ok(Err(error)) => {
            warn!(%name, %kind, %error, "cannot write the CA into the webhook configuration");
        }
        Err(_) => warn!(%name, %kind, "writing the CA into the webhook configuration timed out"),
    }
}
