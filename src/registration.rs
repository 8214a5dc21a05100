//! The webhook's registration: the leader keeps the CA in its configuration's `caBundle`, every replica watches
//! whether it is there. Nothing here ever deletes a configuration: that is an uninstallation's to do.

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tracing::{info, warn};

/// Keeps `ca` (PEM) in every `caBundle` of the configuration `name` while this replica leads, and tells through
/// `registered` whether it is there. Runs until the process ends.
pub async fn keep(
    client: Client,
    name: String,
    ca: String,
    mut leading: watch::Receiver<bool>,
    registered: watch::Sender<bool>,
) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let mut seen: Option<MutatingWebhookConfiguration> = None;
    let mut changes = std::pin::pin!(watch_object(api.clone(), &name).default_backoff());
    loop {
        tokio::select! {
            // Ends never; an error is followed by a new attempt after a pause.
            Some(change) = changes.next() => match change {
                Ok(configuration) => {
                    if configuration.is_none() {
                        warn!(%name, "there is no such MutatingWebhookConfiguration; apply the manifests");
                    }
                    seen = configuration;
                }
                Err(error) => {
                    warn!(%name, %error, "cannot watch the webhook configuration");
                    continue;
                }
            },
            // This replica began to lead, or stopped.
            changed = leading.changed() => if changed.is_err() { return },
        }
        let current = seen
            .as_ref()
            .is_some_and(|configuration| carries(configuration, ca.as_bytes()));
        registered.send_replace(current);
        let Some(configuration) = seen.as_ref().filter(|_| !current && *leading.borrow()) else {
            continue;
        };
        match api
            .patch(
                &name,
                &PatchParams::default(),
                &patch(configuration, ca.as_bytes()),
            )
            .await
        {
            Ok(_) => info!(%name, "wrote the CA into the webhook configuration"),
            // Somebody else wrote in between; the watch brings what, and we look again.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                info!(%name, "the webhook configuration changed meanwhile; looking again");
            }
            Err(error) => {
                warn!(%name, %error, "cannot write the CA into the webhook configuration")
            }
        }
    }
}

fn carries(configuration: &MutatingWebhookConfiguration, ca: &[u8]) -> bool {
    let mut webhooks = configuration.webhooks.iter().flatten().peekable();
    webhooks.peek().is_some()
        && webhooks.all(|webhook| {
            webhook
                .client_config
                .ca_bundle
                .as_ref()
                .is_some_and(|bundle| bundle.0 == ca)
        })
}

/// Sets every `caBundle`, if the configuration is still the one that was looked at.
fn patch(configuration: &MutatingWebhookConfiguration, ca: &[u8]) -> Patch<json_patch::Patch> {
    let version = configuration
        .metadata
        .resource_version
        .as_deref()
        .unwrap_or_default();
    let guard = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
    let bundle = ByteString(ca.to_vec());
    let webhooks = configuration.webhooks.as_ref().map_or(0, Vec::len);
    let set = (0..webhooks)
        .map(|i| json!({"op": "add", "path": format!("/webhooks/{i}/clientConfig/caBundle"), "value": bundle}));
    let operations: Vec<_> = std::iter::once(guard).chain(set).collect();
    // What is built here from constants always reads back.
    Patch::Json(serde_json::from_value(json!(operations)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundles: &[Option<&str>]) -> MutatingWebhookConfiguration {
        let webhooks: Vec<_> = bundles
            .iter()
            .map(|bundle| {
                let bundle = bundle.map(|bundle| ByteString(bundle.as_bytes().to_vec()));
                json!({
                    "name": "w", "admissionReviewVersions": ["v1"], "sideEffects": "NoneOnDryRun",
                    "clientConfig": {"caBundle": bundle},
                })
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"resourceVersion": "7"}, "webhooks": webhooks}))
            .unwrap()
    }

    #[test]
    fn every_webhook_must_carry_exactly_our_ca() {
        assert!(carries(&configuration(&[Some("ca"), Some("ca")]), b"ca"));
        assert!(!carries(
            &configuration(&[Some("ca"), Some("other")]),
            b"ca"
        ));
        assert!(!carries(&configuration(&[Some("ca"), None]), b"ca"));
        assert!(!carries(&configuration(&[]), b"ca"));
    }

    #[test]
    fn the_patch_is_guarded_and_applies() {
        let configuration = configuration(&[None, Some("old")]);
        let Patch::Json::<json_patch::Patch>(patch) = patch(&configuration, b"ca") else {
            panic!("a JSON patch")
        };
        assert_eq!(patch.0.len(), 3);
        let mut object = serde_json::to_value(&configuration).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        assert!(carries(
            &serde_json::from_value(object.clone()).unwrap(),
            b"ca"
        ));
        object["metadata"]["resourceVersion"] = json!("8");
        assert!(
            json_patch::patch(&mut object, &patch).is_err(),
            "a newer configuration is not overwritten"
        );
    }
}
