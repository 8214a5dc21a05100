//! The way in which the watches list: streamed if the API server can.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::WatchParams;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

/// The number of objects per page of an initial list, if lists are not streamed. It bounds the memory of one response.
const PAGE_SIZE: u32 = 200;
/// The limit for the API server's answer whether it streams lists.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before the next request to an API server that did not answer.
const PROBE_PAUSE: Duration = Duration::from_secs(2);

/// Records whether the API server streams lists, once for all watches.
#[derive(Debug, Default)]
pub(super) struct ListMethod(OnceCell<bool>);

impl ListMethod {
    /// Returns a configuration that streams lists if the API server can. A stream is read object by object, while a page of
    /// 200 Deployments takes ten megabytes. Streaming is on by default since 1.34, and older servers may not know it. Waits
    /// for an API server that is away: pages would cost the memory until the process ends.
    pub(super) async fn config(&self, client: &Client) -> watcher::Config {
        let paged = watcher::Config::default().page_size(PAGE_SIZE);
        if *self.0.get_or_init(|| ask(client)).await {
            paged.streaming_lists()
        } else {
            paged
        }
    }
}

async fn ask(client: &Client) -> bool {
    loop {
        let answer = timeout(PROBE_TIMEOUT, streams_lists::<Namespace>(client)).await;
        if let Some(streams) = answer.ok().flatten() {
            if !streams {
                info!("the API server does not stream lists; reading them in pages");
            }
            return streams;
        }
        sleep(PROBE_PAUSE).await;
    }
}

/// Returns whether the API server streams lists, or `None` if it does not answer.
async fn streams_lists<K>(client: &Client) -> Option<bool>
where
    K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = Api::<PartialObjectMeta<K>>::all(client.clone());
    // Names an object that never exists: only the kind of the answer matters.
    let params = WatchParams::streaming_lists()
        .fields("metadata.name=headstart.dev")
        .timeout(1);
    match api.watch_metadata(&params, "0").await {
        // A server that does not know the parameter ignores it, and sends no bookmark at once.
        Ok(events) => {
            let mut events = std::pin::pin!(events);
            Some(events.next().await.is_some_and(|event| event.is_ok()))
        }
        Err(kube::Error::Api(status))
            if (400..500).contains(&status.code) && status.code != 429 =>
        {
            debug!(%status, "streaming lists were refused");
            Some(false)
        }
        Err(error) => {
            debug!(%error, "the API server cannot be asked whether it streams lists");
            None
        }
    }
}
