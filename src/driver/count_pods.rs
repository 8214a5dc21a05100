//! Counts the pods on a node.

use std::time::Duration;

use http::Request;
use http::header::ACCEPT;
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;
use tokio::time::timeout;

/// The limit for one read. A prefetch waits for the answer, which takes milliseconds unless the API server is overloaded.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer. A row takes 200 bytes, and no node takes more than some hundred pods.
const MAX_BYTES: usize = 1024 * 1024;
/// Asks for rows in place of objects, as kubectl does: a fiftieth of the bytes, even of objects that are cut down to their
/// metadata.
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// The query, before and after the name of the node.
const OF_NODE: &str = "includeObject=None&resourceVersion=0&fieldSelector=spec.nodeName%3D";
const NOT_ENDED: &str = "%2Cstatus.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";

/// The reason why there is no number.
#[derive(Debug, Error)]
pub(super) enum CountError {
    #[error("cannot ask for the node's pods: {0}")]
    Build(#[from] http::Error),
    #[error(transparent)]
    Request(#[from] kube::Error),
    #[error("the API server answers {0}")]
    Refused(http::StatusCode),
    #[error("cannot read the answer: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is no list: {0}")]
    NoList(#[from] serde_json::Error),
    #[error("the answer is a part of the list")]
    Partial,
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// A list, of which only the length is read.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMetadata,
    rows: Option<Vec<IgnoredAny>>,
    /// From a server that does not know tables.
    items: Option<Vec<IgnoredAny>>,
}

#[derive(Default, Deserialize)]
struct ListMetadata {
    #[serde(rename = "continue", default)]
    next: String,
}

/// Returns the number of pods on a node that have not ended: those that take a slot.
pub(super) async fn count_pods(client: &Client, node: &str) -> Result<u32, CountError> {
    let answer = timeout(TIMEOUT, list(client, node));
    answer.await.map_err(|_| CountError::Timeout)?
}

/// Lists the pods of a node from the API server's cache, which finds them by the name of the node.
async fn list(client: &Client, node: &str) -> Result<u32, CountError> {
    // A node's name is a DNS name, which a query takes as it is.
    let query = format!("{OF_NODE}{node}{NOT_ENDED}");
    let request = Request::get(format!("/api/v1/pods?{query}"))
        .header(ACCEPT, AS_TABLE)
        .body(Body::empty())?;
    let response = client.send(request).await?;
    if !response.status().is_success() {
        return Err(CountError::Refused(response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_BYTES);
    let body = body.collect().await.map_err(CountError::Body)?;
    let list: List = serde_json::from_slice(&body.to_bytes())?;
    if !list.metadata.next.is_empty() {
        return Err(CountError::Partial);
    }
    let Some(pods) = list.rows.or(list.items) else {
        return Ok(0);
    };
    Ok(u32::try_from(pods.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use http::{Response, StatusCode};
    use serde_json::{Value, json};

    use super::*;

    /// Counts the pods of a node at an API server that answers so.
    async fn count(code: StatusCode, answer: Value) -> Result<u32, String> {
        let server = tower::service_fn(move |request: Request<Body>| {
            assert_eq!(request.uri().path(), "/api/v1/pods");
            let query = request.uri().query().unwrap_or_default();
            for part in [
                "spec.nodeName%3Dn1%2C",
                "status.phase%21%3DFailed",
                "resourceVersion=0",
                "includeObject=None",
            ] {
                assert!(query.contains(part), "{part} in {query}");
            }
            let accept = request.headers()[ACCEPT].to_str().unwrap();
            assert!(accept.starts_with("application/json;as=Table;"), "{accept}");
            let body = Body::from(answer.to_string().into_bytes());
            let response = Response::builder().status(code).body(body).unwrap();
            async move { Ok::<_, std::io::Error>(response) }
        });
        let client = Client::new(server, "default");
        let counted = count_pods(&client, "n1").await;
        counted.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_pods_of_a_node_are_counted_by_rows_or_items() {
        let rows = json!({"kind": "Table", "rows": [{"cells": ["web", 1]}, {"cells": ["db", 2]}]});
        assert_eq!(count(StatusCode::OK, rows).await, Ok(2));
        let items = json!({"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [{}]});
        assert_eq!(count(StatusCode::OK, items).await, Ok(1));
        let none = json!({"kind": "Table", "rows": null});
        assert_eq!(count(StatusCode::OK, none).await, Ok(0));
    }

    #[tokio::test]
    async fn what_is_no_whole_list_is_no_number() {
        let part = json!({"metadata": {"continue": "more"}, "items": [{}]});
        assert!(count(StatusCode::OK, part).await.is_err());
        assert!(count(StatusCode::OK, json!([])).await.is_err());
        assert!(count(StatusCode::FORBIDDEN, json!({})).await.is_err());
        let cells = "x".repeat(MAX_BYTES);
        let large = json!({"rows": [{"cells": [cells]}]});
        assert!(count(StatusCode::OK, large).await.is_err());
    }
}
