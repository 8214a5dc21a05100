//! The `caBundle`s of a configuration: read, and written by a patch that fails if another client was faster.

use std::fmt::Debug;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::Resource;
use kube::api::Patch;
use serde::de::DeserializeOwned;
use serde_json::json;

/// The common parts of the two kinds of configurations.
pub(super) trait Configuration:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Returns the client configuration of each webhook.
    fn clients(&self) -> Vec<&WebhookClientConfig>;

    /// Returns the `caBundle` of each webhook.
    fn bundles(&self) -> Vec<Option<&[u8]>> {
        let clients = self.clients().into_iter();
        clients
            .map(|client| Some(client.ca_bundle.as_ref()?.0.as_slice()))
            .collect()
    }

    /// Returns a patch that sets every `caBundle`. It fails if the configuration has changed.
    fn patch(&self, bundle: &[u8]) -> Patch<json_patch::Patch> {
        let version = self.meta().resource_version.as_deref().unwrap_or_default();
        let guard = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
        let bundle = ByteString(bundle.to_vec());
        let set = (0..self.clients().len())
            .map(|i| json!({"op": "add", "path": format!("/webhooks/{i}/clientConfig/caBundle"), "value": bundle}));
        let operations: Vec<_> = std::iter::once(guard).chain(set).collect();
        // Constant JSON like this always parses.
        Patch::Json(serde_json::from_value(json!(operations)).unwrap_or_default())
    }
}

impl Configuration for MutatingWebhookConfiguration {
    fn clients(&self) -> Vec<&WebhookClientConfig> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks.map(|webhook| &webhook.client_config).collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn clients(&self) -> Vec<&WebhookClientConfig> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks.map(|webhook| &webhook.client_config).collect()
    }
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
    fn the_patch_is_guarded_and_applies() {
        let configuration = configuration(&[None, Some("old")]);
        assert_eq!(configuration.bundles(), [None, Some(b"old".as_slice())]);
        let Patch::Json::<json_patch::Patch>(patch) = configuration.patch(b"ca") else {
            panic!("a JSON patch")
        };
        assert_eq!(patch.0.len(), 3);
        let mut object = serde_json::to_value(&configuration).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        let patched: MutatingWebhookConfiguration = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(patched.bundles(), [Some(b"ca".as_slice()); 2]);
        object["metadata"]["resourceVersion"] = json!("8");
        assert!(
            json_patch::patch(&mut object, &patch).is_err(),
            "a newer configuration is not overwritten"
        );
    }
}
