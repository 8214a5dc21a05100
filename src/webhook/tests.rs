use super::*;
use axum::Router;
use axum::body::Body;
use axum::http::Request as HttpRequest;
use axum::http::header::CONTENT_TYPE;
use headstart_core::workload::Workload;
use http_body_util::BodyExt;
use response::{MAX_WARNING, MAX_WARNINGS};
use serde_json::{Value, json};
use serve::{HOLD, MUTATE, VALIDATE, WITHOUT_CONSENT};
use tower::ServiceExt;

struct Served {
    reviews: Arc<PendingReviews>,
    budget: MemoryBudget,
    router: Router,
}

mod hold;
mod limits;
mod sizes;
mod validate;

fn serve() -> Served {
    serve_through(None)
}

fn serve_through(gate: Option<HoldAdmission>) -> Served {
    let webhook = webhook(gate);
    Served {
        reviews: webhook.reviews.clone(),
        budget: webhook.memory_budget.clone(),
        router: router(webhook),
    }
}

fn webhook(gate: Option<HoldAdmission>) -> Webhook {
    Webhook {
        reviews: Arc::default(),
        metrics: Arc::default(),
        own_namespace: "headstart".into(),
        memory_budget: MemoryBudget::default(),
        holds: gate,
    }
}

impl Served {
    async fn post(&self, content_type: &str, body: impl Into<Body>) -> (StatusCode, String) {
        self.post_to(MUTATE, content_type, body).await
    }

    async fn post_to(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> (StatusCode, String) {
        let request = HttpRequest::post(format!("{path}?timeout=2s"))
            .header(CONTENT_TYPE, content_type)
            .body(body.into())
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn review(&self, review: &Value) -> Value {
        let (status, body) = self.post("application/json", review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Returns whether a write passes `/validate`, or the message of the refusal.
    async fn verdict(&self, review: &Value) -> Result<(), String> {
        let (status, body) = self
            .post_to(VALIDATE, "application/json", review.to_string())
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let response = &answer["response"];
        assert_eq!(response["uid"], review["request"]["uid"]);
        match response["allowed"].as_bool().unwrap() {
            true => Ok(()),
            false => Err(response["status"]["message"].as_str().unwrap().to_owned()),
        }
    }

    /// Returns whether a review for shop/web with these images was recorded.
    fn noted(&self, object: &Value) -> bool {
        let workload =
            Workload::from_deployment(&serde_json::from_value(object.clone()).unwrap()).unwrap();
        self.reviews
            .take_confirmed(&workload.key, &workload.image_set)
            .is_some()
    }
}

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
    })
}

/// A review as the API server sends it.
fn review_of(operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "name": "web", "namespace": "shop", "operation": operation,
            "userInfo": {"username": "admin"}, "object": object, "oldObject": old, "dryRun": false,
        },
    })
}

#[tokio::test]
async fn a_create_is_noted_and_allowed_with_its_own_uid() {
    let served = serve();
    let object = deployment("app:1");
    let answer = served
        .review(&review_of("CREATE", &object, &Value::Null))
        .await;
    assert_eq!(
        answer,
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": true},
        }),
    );
    assert!(served.noted(&object));
}

#[tokio::test]
async fn an_update_is_noted_only_if_an_image_changed() {
    let served = serve();
    let (v1, v2) = (deployment("app:1"), deployment("app:2"));
    served.review(&review_of("UPDATE", &v1, &v1)).await;
    assert!(!served.noted(&v1));
    served.review(&review_of("UPDATE", &v2, &v1)).await;
    assert!(served.noted(&v2));
}

#[tokio::test]
async fn what_is_not_ours_is_allowed_and_left_alone() {
    let served = serve();
    let object = deployment("app:1");
    let mut dry = review_of("CREATE", &object, &Value::Null);
    dry["request"]["dryRun"] = json!(true);
    let mut system = review_of("CREATE", &object, &Value::Null);
    system["request"]["namespace"] = json!("kube-system");
    let mut other_kind = review_of("CREATE", &object, &Value::Null);
    other_kind["request"]["kind"]["kind"] = json!("StatefulSet");
    let mut unnamed = review_of("CREATE", &object, &Value::Null);
    unnamed["request"]["name"] = Value::Null;
    unnamed["request"]["object"]["metadata"] = json!({"generateName": "web-", "namespace": "shop"});
    let mut not_a_deployment = review_of("CREATE", &object, &Value::Null);
    not_a_deployment["request"]["object"] = json!({"spec": []});
    let mut without_object = review_of("CREATE", &object, &Value::Null);
    without_object["request"]["object"] = Value::Null;
    for review in [
        dry,
        system,
        other_kind,
        unnamed,
        not_a_deployment,
        without_object,
        review_of("DELETE", &object, &object),
    ] {
        let answer = served.review(&review).await;
        assert_eq!(answer["response"]["allowed"], true, "{review}");
        assert!(!served.noted(&object), "{review}");
    }
}

#[tokio::test]
async fn what_cannot_be_prefetched_is_a_warning() {
    let served = serve();
    let mut object = deployment("Not Valid");
    object["metadata"]["labels"] = json!({"headstart.dev/prefetch": "yes"});
    object["metadata"]["annotations"] = json!({"headstart.dev/max-nodes": "0"});
    let answer = served
        .review(&review_of("CREATE", &object, &Value::Null))
        .await;
    let warnings = answer["response"]["warnings"].as_array().unwrap();
    let wanted = [
        "use enabled, hold or disabled",
        "headstart.dev/max-nodes=\"0\": use a number such as 50 or a share such as 30%",
        "Not Valid",
    ];
    assert_eq!(warnings.len(), wanted.len());
    for (warning, phrase) in warnings.iter().zip(wanted) {
        assert!(warning.as_str().unwrap().contains(phrase), "{warning}");
    }
}

#[tokio::test]
async fn five_hundred_images_are_answered_with_a_few_short_warnings() {
    let served = serve();
    let mut object = deployment("app:1");
    let containers: Vec<_> = (0..500)
        .map(|i| json!({"name": format!("c{i}"), "image": format!("app:{i}")}))
        .collect();
    object["spec"]["template"]["spec"]["containers"] = json!(containers);
    let answer = served
        .review(&review_of("CREATE", &object, &Value::Null))
        .await;
    let warnings = answer["response"]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), MAX_WARNINGS);
    assert!(
        warnings
            .iter()
            .all(|w| w.as_str().unwrap().chars().count() <= MAX_WARNING)
    );
}

#[tokio::test]
async fn what_is_no_review_gets_the_status_that_says_so() {
    let served = serve();
    let object = deployment("app:1");
    let mut beta = review_of("CREATE", &object, &Value::Null);
    beta["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut without_uid = review_of("CREATE", &object, &Value::Null);
    without_uid["request"]["uid"] = json!("");
    let table = [
        (
            "application/json",
            "{".to_owned(),
            StatusCode::BAD_REQUEST,
            "not an AdmissionReview",
        ),
        (
            "application/json",
            String::new(),
            StatusCode::BAD_REQUEST,
            "not an AdmissionReview",
        ),
        (
            "application/json",
            "[]".to_owned(),
            StatusCode::BAD_REQUEST,
            "not an AdmissionReview",
        ),
        (
            "application/json",
            json!({"kind": "Pod", "apiVersion": "v1"}).to_string(),
            StatusCode::BAD_REQUEST,
            "want admission.k8s.io/v1 AdmissionReview, got v1 Pod",
        ),
        (
            "application/json",
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}).to_string(),
            StatusCode::BAD_REQUEST,
            "request is missing",
        ),
        (
            "application/json",
            beta.to_string(),
            StatusCode::BAD_REQUEST,
            "want admission.k8s.io/v1",
        ),
        (
            "application/json",
            without_uid.to_string(),
            StatusCode::BAD_REQUEST,
            "request.uid",
        ),
        (
            "text/plain",
            "{}".to_owned(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type",
        ),
        (
            "application/json",
            "x".repeat(10 << 20),
            StatusCode::PAYLOAD_TOO_LARGE,
            "length limit",
        ),
    ];
    for (content_type, body, status, phrase) in table {
        let shown = body.chars().take(60).collect::<String>();
        let (got, answer) = served.post(content_type, body).await;
        assert_eq!(got, status, "{shown}");
        assert!(answer.contains(phrase), "{shown}: {answer}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_not_served() {
    let served = serve();
    let get = |path: &str| {
        served
            .router
            .clone()
            .oneshot(HttpRequest::get(path).body(Body::empty()).unwrap())
    };
    assert_eq!(
        get(MUTATE).await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(get("/").await.unwrap().status(), StatusCode::NOT_FOUND);
}
