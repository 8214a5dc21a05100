//! Changes the port at which the API server calls the webhooks of a local process.

use std::fmt::Debug;

use anyhow::{Context as _, Result};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{NAME, local_url};

/// Has all webhooks called at this port of the loopback interface. They are called by URL already.
pub(super) async fn call_at(client: Client, port: u16) -> Result<()> {
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client);
    change(&mutating, port).await?;
    change(&validating, port).await
}

async fn change<K>(configurations: &Api<K>, port: u16) -> Result<()>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    let stored = serde_json::to_value(configurations.get(NAME).await?)?;
    let webhooks = stored["webhooks"].as_array().context("no webhooks")?;
    let replace = |(index, webhook): (usize, &Value)| {
        let url = webhook["clientConfig"]["url"].as_str();
        let url: http::Uri = url.context("a webhook that has no URL")?.parse()?;
        Ok(json!({
            "op": "replace",
            "path": format!("/webhooks/{index}/clientConfig/url"),
            "value": local_url(port, url.path()),
        }))
    };
    let operations: Result<Value> = webhooks.iter().enumerate().map(replace).collect();
    let patch = Patch::Json::<()>(serde_json::from_value(operations?)?);
    configurations
        .patch(NAME, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}
