use super::*;
use answer::{MAX_WARNING, MAX_WARNINGS};
use axum::body::Body;
use axum::http::Request as HttpRequest;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

struct Served {
    hints: Arc<Hints>,
    budget: Budget,
    router: Router,
}

mod hold;

fn serve() -> Served {
    serve_through(None)
}

fn serve_through(gate: Option<Gate>) -> Served {
    let hints = Arc::new(Hints::default());
    let budget = Budget::default();
    let webhook = Webhook {
        hints: hints.clone(),
        metrics: Arc::default(),
        own_namespace: "headstart".into(),
        budget: budget.clone(),
        gate,
    };
    Served {
        hints,
        budget,
        router: router(webhook),
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

    /// Whether a write passes `/validate`, or what it is told.
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

    /// Whether a review for shop/web with these images was noted.
    fn noted(&self, object: &Value) -> bool {
        let workload =
            Workload::from_deployment(&serde_json::from_value(object.clone()).unwrap()).unwrap();
        self.hints
            .confirm(&workload.key, &workload.revision)
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
            "request",
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

fn annotated(annotation: &str, value: &str) -> Value {
    let mut object = deployment("app:1");
    object["metadata"]["annotations"] = json!({annotation: value});
    object
}

#[tokio::test]
async fn a_malformed_annotation_is_denied_with_its_name_value_and_form() {
    let served = serve();
    for (annotation, value, form) in [
        (
            "headstart.dev/node-selector",
            "pool in web",
            "a label selector",
        ),
        ("headstart.dev/max-nodes", "many", "a number such as 50"),
        (
            "headstart.dev/refresh",
            "often",
            "a duration of at least 1m",
        ),
        ("headstart.dev/images", "Not Valid", "image references"),
        ("headstart.dev/hold-timeout", "0s", "a duration such as 90s"),
        (
            "headstart.dev/hold-until",
            "nine tenths",
            "a share from 1% to 100%",
        ),
    ] {
        let review = review_of("CREATE", &annotated(annotation, value), &Value::Null);
        let message = served.verdict(&review).await.unwrap_err();
        for part in [annotation, value, form] {
            assert!(message.contains(part), "{message}");
        }
    }
    let mut labelled = deployment("app:1");
    labelled["metadata"]["labels"] = json!({"headstart.dev/prefetch": "yes"});
    let review = review_of("CREATE", &labelled, &Value::Null);
    let message = served.verdict(&review).await.unwrap_err();
    assert!(
        message.contains("\"yes\"; use enabled, hold or disabled"),
        "{message}"
    );
}

#[tokio::test]
async fn nothing_else_is_denied() {
    let served = serve();
    let bad = annotated("headstart.dev/max-nodes", "many");
    let mut repaired_elsewhere = bad.clone();
    repaired_elsewhere["metadata"]["annotations"]["headstart.dev/refresh"] = json!("5m");
    let mut ours = review_of("CREATE", &bad, &Value::Null);
    ours["request"]["namespace"] = json!("headstart");
    let mut other_kind = review_of("CREATE", &bad, &Value::Null);
    other_kind["request"]["kind"]["kind"] = json!("StatefulSet");
    for allowed in [
        review_of(
            "CREATE",
            &annotated("headstart.dev/max-nodes", "30%"),
            &Value::Null,
        ),
        review_of(
            "CREATE",
            &annotated("example.com/max-nodes", "many"),
            &Value::Null,
        ),
        // Stored before headstart was there: it must not stand in the way of another change.
        review_of("UPDATE", &bad, &bad),
        review_of("UPDATE", &repaired_elsewhere, &bad),
        review_of("DELETE", &Value::Null, &bad),
        ours,
        other_kind,
    ] {
        assert_eq!(served.verdict(&allowed).await, Ok(()), "{allowed}");
    }
    let spoiled = review_of("UPDATE", &bad, &annotated("headstart.dev/max-nodes", "30%"));
    assert!(served.verdict(&spoiled).await.is_err());
}

#[tokio::test]
async fn a_review_that_there_is_no_room_for_is_allowed_unread() {
    let served = serve();
    let object = deployment("app:1");
    // As the API server orders it, and too large for what is left.
    let review = review_of("CREATE", &object, &Value::Null);
    let body = |padding: usize| {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{},"padding":"{}"}}"#,
            review["request"],
            "x".repeat(padding)
        )
    };
    let all = served.budget.take_all();
    let (status, answer) = served.post("application/json", body(100_000)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        answer["response"],
        json!({"uid": review["request"]["uid"], "allowed": true})
    );
    assert!(!served.noted(&object));
    let (status, _) = served.post("application/json", "x".repeat(100_000)).await;
    assert_eq!(
        status,
        StatusCode::SERVICE_UNAVAILABLE,
        "it names no review to allow"
    );
    drop(all);
    served.post("application/json", body(100_000)).await;
    assert!(served.noted(&object));
}

#[test]
fn the_uid_is_found_in_the_beginning_of_a_review_and_nowhere_else() {
    let whole = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"705ab4f5","kind":{"group":"apps"}}}"#;
    let found = |prefix: &str| prefix::uid_of_prefix(prefix.as_bytes());
    for end in 0..=whole.len() {
        let known = end > whole.find("\",\"kind\":{").unwrap();
        assert_eq!(found(&whole[..end]).is_some(), known, "{}", &whole[..end]);
    }
    assert_eq!(found(whole).as_deref(), Some("705ab4f5"));
    for not_one in [
        &whole.replace("v1", "v1beta1"),
        &whole.replace("AdmissionReview", "Pod"),
        &whole.replace("705ab4f5", ""),
        r#"{"request":{"object":{"uid":"705ab4f5"}}}"#,
        r#"["uid","705ab4f5"]"#,
        "",
    ] {
        assert_eq!(found(not_one), None, "{not_one}");
    }
}

/// Three bytes of JSON for what would take a kilobyte as Kubernetes' own type, and names that would fill the hints.
#[tokio::test]
async fn a_forged_review_cannot_make_us_remember_much() {
    let served = serve();
    let lists = format!("[{}{{}}]", "{},".repeat(1_000_000));
    let body = review_of("CREATE", &deployment("app:1"), &Value::Null)
        .to_string()
        .replace(r#"[{"image":"app:1","name":"app"}]"#, &lists);
    assert!(body.len() > 3_000_000);
    let (status, answer) = served.post("application/json", body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let mut long = review_of("CREATE", &deployment("app:1"), &Value::Null);
    long["request"]["name"] = json!("x".repeat(1_000_000));
    served.review(&long).await;
    assert_eq!(
        served
            .hints
            .expire(Instant::now() + crate::queue::HINT_LIFETIME),
        0
    );
    long["request"]["uid"] = json!("x".repeat(1_000_000));
    let (status, _) = served.post("application/json", long.to_string()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_bug_costs_one_answer_and_no_connection() {
    let webhook = Webhook {
        hints: Arc::default(),
        metrics: Arc::default(),
        own_namespace: "headstart".into(),
        budget: Budget::default(),
        gate: None,
    };
    let request = HttpRequest::post(MUTATE)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from("{}"))
        .unwrap();
    let answer = webhook.serve(request, |_, _| panic!("on purpose")).await;
    let Err(Refused(status, _)) = answer else {
        panic!("there can be no answer");
    };
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
}
