//! The simulator's API server answers as a real one: one script of requests, the same lines from both.

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use headstart_sim::conformance::{
    Exchange, NAMESPACE, Request, Script, differences, expected, lines_of_the_fake,
};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use testbed::control_plane::Options;
use testbed::harness::{PATIENCE, until};
use testbed::{Component, ControlPlane};

use crate::FEW_NODES;

/// Sends requests of the script to a real API server.
struct Real {
    client: Client,
}

#[tokio::test]
async fn fake_api_conformance() {
    let _turn = FEW_NODES.as_it_is().await;
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    // Controllers would change objects between the steps.
    plane.stop_component(Component::ControllerManager);
    plane.stop_component(Component::Scheduler);
    let real = Real {
        client: plane.client().unwrap(),
    };
    let mut script = Script::default();
    while let Some(exchange) = script.next_exchange() {
        let (code, body) = match exchange {
            Exchange::Request(request) => real.answer(&request).await,
            Exchange::Watch { request, until } => (200, real.events(&request, until).await),
            Exchange::Quota(most) => {
                real.set_quota(most).await;
                (200, Value::Null)
            }
        };
        script.on_answer(code, &body);
    }
    let found = script.into_lines();
    let fake = differences(&found, &lines_of_the_fake());
    assert!(
        fake.is_empty(),
        "the real API server (-) and the simulator's (+):\n{}",
        fake.join("\n")
    );
    // The lines that the fast test of the simulator has.
    let written = differences(&found, &expected());
    assert!(
        written.is_empty(),
        "the real API server (-) and expected.txt (+):\n{}",
        written.join("\n")
    );
}

impl Real {
    /// Sends a request; returns the status code and the body.
    async fn answer(&self, request: &Request) -> (u16, Value) {
        let sent = self.client.send(http_request(request).map(Body::from));
        let response = sent.await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body);
        (
            code,
            body.unwrap_or_else(|error| panic!("{request:?}: {error}")),
        )
    }

    /// Returns the events of a watch, up to the first of this object.
    async fn events(&self, request: &Request, until: &str) -> Value {
        let watch = async {
            let stream = self.client.request_stream(http_request(request)).await;
            let mut lines = Box::pin(stream.unwrap()).lines();
            let mut events: Vec<Value> = Vec::new();
            while let Some(line) = lines.try_next().await.unwrap() {
                let event: Value = serde_json::from_str(&line).unwrap();
                let ends = event["object"]["metadata"]["name"] == until;
                events.push(event);
                if ends {
                    break;
                }
            }
            json!(events)
        };
        let events = tokio::time::timeout(PATIENCE, watch).await;
        events.unwrap_or_else(|_| panic!("{request:?}: no event of {until}"))
    }

    /// Sets the quota on pods, as its controller does, and waits until it counts.
    async fn set_quota(&self, most: Option<usize>) {
        let quotas = format!("/api/v1/namespaces/{NAMESPACE}/resourcequotas");
        let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let send = async |method, path: String, body| {
            let request = Request {
                method,
                path,
                body,
                manager: "quota",
            };
            self.answer(&request).await
        };
        let mut expected = 201;
        if let Some(most) = most {
            let (_, list) = send("GET", pods.clone(), Value::Null).await;
            let used = list["items"].as_array().unwrap().len();
            assert!(used >= most, "a quota with room cannot be waited for");
            expected = 403;
            let hard = json!({"pods": most.to_string()});
            let quota = json!({
                "apiVersion": "v1", "kind": "ResourceQuota",
                "metadata": {"name": "pods"}, "spec": {"hard": hard},
            });
            let status = json!({"status": {"hard": hard, "used": {"pods": used.to_string()}}});
            assert_eq!(send("POST", quotas.clone(), quota).await.0, 201);
            let path = format!("{quotas}/pods/status");
            assert_eq!(send("PATCH", path, status).await.0, 200);
        } else {
            let deleted = send("DELETE", format!("{quotas}/pods"), Value::Null).await;
            assert_eq!(deleted.0, 200);
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        });
        until("the quota to count", async || {
            let probe = send("POST", format!("{pods}?dryRun=All"), pod.clone());
            probe.await.0 == expected
        })
        .await;
    }
}

fn http_request(request: &Request) -> http::Request<Vec<u8>> {
    let Request {
        method,
        path,
        body,
        manager,
    } = request;
    let separator = if path.contains('?') { '&' } else { '?' };
    let uri = match *method {
        "GET" => path.clone(),
        _ => format!("{path}{separator}fieldManager={manager}"),
    };
    let content = match *method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = match body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let built = http::Request::builder().method(*method).uri(uri);
    let built = built.header(http::header::CONTENT_TYPE, content);
    built.body(body).unwrap()
}
