//! Counts the requests to the API server. kube's own retries are off (`client_with_metrics`), so each attempt is a request.

use std::sync::Arc;

use futures::future::BoxFuture;
use tower::{Layer, Service};

use crate::metrics::Metrics;

/// Counts the requests that pass through.
#[derive(Clone)]
pub(crate) struct RequestMetricsLayer(pub Arc<Metrics>);

impl<S> Layer<S> for RequestMetricsLayer {
    type Service = RequestMetrics<S>;

    fn layer(&self, inner: S) -> RequestMetrics<S> {
        RequestMetrics {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// A service whose answers are counted.
#[derive(Clone)]
pub(crate) struct RequestMetrics<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, A, B> Service<http::Request<A>> for RequestMetrics<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        let verb = verb(request.method(), request.uri());
        let metrics = self.metrics.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = match &answer {
                Ok(response) => response.status().as_u16().to_string(),
                Err(_) => "no answer".to_owned(),
            };
            metrics.api_call(verb, code);
            answer
        })
    }
}

/// Returns the verb in the API server's own terms, as far as method and query show it.
fn verb(method: &http::Method, uri: &http::Uri) -> &'static str {
    let watches = uri.query().is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair == "watch=true" || pair == "watch=1")
    });
    match method.as_str() {
        "GET" if watches => "watch",
        "GET" => "read",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_counted_by_verb_and_code() {
        let metrics = Arc::new(Metrics::default());
        let server = tower::service_fn(|request: http::Request<()>| async move {
            let code = if request.method() == http::Method::POST {
                409
            } else {
                200
            };
            Ok::<_, std::io::Error>(http::Response::builder().status(code).body(()).unwrap())
        });
        let mut counted = RequestMetricsLayer(metrics.clone()).layer(server);
        for (method, uri) in [
            ("POST", "/api/v1/pods"),
            ("GET", "/api/v1/pods?&watch=true"),
            ("GET", "/api/v1/pods"),
        ] {
            let request = http::Request::builder()
                .method(method)
                .uri(uri)
                .body(())
                .unwrap();
            counted.call(request).await.unwrap();
        }
        let text = metrics.encode();
        for (verb, code) in [("create", 409), ("watch", 200), ("read", 200)] {
            let line = format!("headstart_api_calls_total{{verb=\"{verb}\",code=\"{code}\"}} 1");
            assert!(text.contains(&line), "{line} is missing in:\n{text}");
        }
    }
}
