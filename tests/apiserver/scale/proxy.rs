//! What stands between headstart and the API server, and misbehaves as a test asks of it.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::scale::cluster::TestCluster;

/// What becomes of a request.
pub(crate) enum Manner {
    /// Passes the request on, and the answer back.
    Pass,
    /// Answers so after a while, and does not pass the request on.
    Refuse(u16, Duration),
    /// Passes the request on, and cuts the answer off after a while.
    Cut(Duration),
}

type Manners = Box<dyn Fn(&Request) -> Manner + Send + Sync>;

struct Passing {
    client: Client,
    manners: Manners,
}

/// The proxy; it ends when dropped.
pub(crate) struct Proxy {
    /// How to reach it.
    pub(crate) kubeconfig: PathBuf,
    _serving: AbortOnDropHandle<std::io::Result<()>>,
}

impl Proxy {
    pub(crate) async fn start(
        cluster: &TestCluster,
        manners: impl Fn(&Request) -> Manner + Send + Sync + 'static,
    ) -> Self {
        let file = Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .unwrap();
        config.default_retry = false;
        config.read_timeout = None;
        let passing = Arc::new(Passing {
            client: Client::try_from(config).unwrap(),
            manners: Box::new(manners),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass).with_state(passing);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let through = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "none", "user": {} }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "none" } }],
        });
        let kubeconfig = cluster.plane.dir().join("proxy.kubeconfig");
        std::fs::write(&kubeconfig, through.to_string()).unwrap();
        Self {
            kubeconfig,
            _serving: AbortOnDropHandle::new(serving),
        }
    }
}

async fn pass(
    State(passing): State<Arc<Passing>>,
    request: Request,
) -> Result<Response, Infallible> {
    let response = match (passing.manners)(&request) {
        Manner::Pass => forward(&passing.client, request).await,
        Manner::Refuse(code, pause) => {
            tokio::time::sleep(pause).await;
            let response = Response::builder()
                .status(code)
                .header("Retry-After", "1")
                .body(Body::from("trouble"));
            response.unwrap()
        }
        Manner::Cut(after) => {
            let (parts, body) = forward(&passing.client, request).await.into_parts();
            let end = tokio::time::sleep(after);
            let body = body.into_data_stream().take_until(end);
            Response::from_parts(parts, Body::from_stream(body))
        }
    };
    Ok(response)
}

async fn forward(client: &Client, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut upstream = http::Request::builder().method(parts.method).uri(parts.uri);
    for name in ["content-type", "accept"] {
        if let Some(value) = parts.headers.get(name) {
            upstream = upstream.header(name, value);
        }
    }
    let upstream = upstream
        .body(kube::client::Body::from(body.to_vec()))
        .unwrap();
    let Ok(answer) = client.send(upstream).await else {
        let gone = Response::builder().status(502).body(Body::empty());
        return gone.unwrap();
    };
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::from_stream(body.into_data_stream()));
    *response.status_mut() = parts.status;
    if let Some(kind) = parts.headers.get("content-type") {
        response.headers_mut().insert("content-type", kind.clone());
    }
    response
}
