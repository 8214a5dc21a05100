//! Tests the limits for callers, and the answers without room.

use super::*;

#[tokio::test]
async fn a_review_that_there_is_no_room_for_is_allowed_unread() {
    let served = serve();
    let object = deployment("app:1");
    // In the API server's order, and too large for the remaining memory.
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
    let found = |prefix: &str| partial_review::uid_of_prefix(prefix.as_bytes());
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

/// Three bytes of JSON that would take a kilobyte as Kubernetes' own type, and names that would fill the reviews.
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
    // One hint, as for every review.
    let later = Instant::now() + REVIEW_LIFETIME;
    assert_eq!(served.reviews.expire(later), 1);
    let mut long = review_of("CREATE", &deployment("app:1"), &Value::Null);
    long["request"]["name"] = json!("x".repeat(1_000_000));
    served.review(&long).await;
    assert_eq!(served.reviews.expire(Instant::now() + REVIEW_LIFETIME), 0);
    long["request"]["uid"] = json!("x".repeat(1_000_000));
    let (status, _) = served.post("application/json", long.to_string()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

/// Small reviews are parsed where they arrive, and large ones on another thread.
#[tokio::test]
async fn a_bug_costs_one_answer_and_no_connection() {
    for body in ["{}".to_owned(), " ".repeat(body::SMALL + 1)] {
        let webhook = Arc::new(webhook(None));
        let request = HttpRequest::post(MUTATE)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .unwrap();
        let budget = webhook.memory_budget.clone();
        let answer = webhook.serve(request, |_, _| panic!("on purpose")).await;
        let Err(RequestError(status, _)) = answer else {
            panic!("there can be no answer");
        };
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(budget.in_use(), (0, 0), "all of it comes back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_review_waits_a_moment_for_its_turn_and_is_then_allowed_unread() {
    let served = serve();
    let object = deployment("app:1");
    let request = &review_of("CREATE", &object, &Value::Null)["request"];
    let body = |padding: usize| {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{request},"padding":"{}"}}"#,
            "x".repeat(padding)
        )
    };
    let turns = served.budget.take_all_turns();
    let begun = Instant::now();
    let (status, answer) = served.post("application/json", body(body::SMALL)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(begun.elapsed() < body::TURN * 2, "{:?}", begun.elapsed());
    assert!(answer.contains(r#""allowed":true"#), "{answer}");
    assert!(!served.noted(&object));
    served.post("application/json", body(10)).await;
    assert!(served.noted(&object), "a small one needs no turn");
    drop(turns);
    let other = served.post("application/json", body(body::SMALL));
    assert_eq!(other.await.0, StatusCode::OK);
    assert_eq!(served.budget.in_use(), (0, 0));
}

/// A standby answers reviews but takes none of them out.
#[tokio::test]
async fn more_reviews_than_there_is_room_for_are_all_noted() {
    let webhook = webhook(None);
    let (metrics, reviews) = (webhook.metrics.clone(), webhook.reviews.clone());
    let mut review = review_of("CREATE", &deployment("app:1"), &Value::Null);
    for number in 0..10_000 {
        let name = json!(format!("web-{number}"));
        review["request"]["name"] = name.clone();
        review["request"]["object"]["metadata"]["name"] = name;
        webhook.mutate(review.to_string().as_bytes()).unwrap();
    }
    let counted = metrics.encode();
    let noted = "headstart_admission_reviews_total{decision=\"Noted\"} 10000\n";
    assert!(counted.contains(noted), "{counted}");
    let later = Instant::now() + REVIEW_LIFETIME;
    assert_eq!(reviews.expire(later), MAX_PENDING_REVIEWS);
}
