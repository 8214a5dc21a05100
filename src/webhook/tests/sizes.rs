//! Tests the messages about values that are too large, and their length.

use super::*;
use headstart_core::limits::ANSWER_BYTES;

fn changed(change: &Value) -> Value {
    let mut object = deployment("app:1");
    json_patch::merge(&mut object, change);
    review_of("CREATE", &object, &Value::Null)
}

fn warnings(answer: &Value) -> String {
    answer["response"]["warnings"].to_string()
}

#[tokio::test]
async fn a_review_of_what_is_too_large_is_allowed_with_a_warning() {
    let served = serve();
    let tolerations = vec![json!({"operator": "Exists"}); 65];
    let secrets = vec![json!({"name": "a"}); 17];
    let terms = |terms: usize| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": vec![json!({}); terms]}}});
    let condition = |conditions: usize, values: usize| {
        let condition = json!({"key": "a", "operator": "In", "values": vec!["b"; values]});
        let term = json!({"matchExpressions": vec![condition; conditions]});
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}})
    };
    for (spec, limit) in [
        (
            json!({"tolerations": tolerations}),
            "more than 64 tolerations",
        ),
        (
            json!({"imagePullSecrets": secrets}),
            "more than 16 imagePullSecrets",
        ),
        (json!({"affinity": condition(33, 1)}), "more than 32 terms"),
        (json!({"affinity": condition(1, 65)}), "more than 32 terms"),
        (json!({"affinity": terms(33)}), "more than 32 terms"),
        (
            json!({"affinity": terms(10_000)}),
            "take more than 16384 bytes",
        ),
        (
            json!({"nodeName": "n".repeat(20_000)}),
            "take more than 16384 bytes",
        ),
    ] {
        let review = changed(&json!({"spec": {"template": {"spec": spec}}}));
        let answer = served.review(&review).await;
        assert_eq!(answer["response"]["allowed"], true);
        let said = warnings(&answer);
        assert!(said.contains("no prefetch, no hold"), "{said}");
        // The sentence may be cut, but not before it names the cause.
        let said: String = said.chars().take(140).collect();
        let begins = limit.chars().take(20).collect::<String>();
        assert!(
            said.contains(&begins) || said.contains("its images, tolerations"),
            "{said}"
        );
    }
    let fine = changed(&json!({"spec": {"template": {"spec": {"affinity": terms(32)}}}}));
    assert_eq!(warnings(&served.review(&fine).await), "null");
}

#[tokio::test]
async fn containers_beyond_those_that_are_read_are_a_warning() {
    let served = serve();
    let containers: Vec<_> = (0..300)
        .map(|i| json!({"image": format!("app:{}", i / 200)}))
        .collect();
    let read = changed(&json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    assert_eq!(
        warnings(&served.review(&read).await),
        "null",
        "app:1 is among the first"
    );
    let containers: Vec<_> = (0..300)
        .map(|i| json!({"image": format!("app:{}", i / 299)}))
        .collect();
    let unread = changed(&json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    let said = warnings(&served.review(&unread).await);
    assert!(said.contains("only the first 256 containers"), "{said}");
}

#[tokio::test]
async fn an_image_that_an_injector_puts_in_is_no_warning() {
    let served = serve();
    let object = deployment("auto");
    let answer = served
        .review(&review_of("CREATE", &object, &Value::Null))
        .await;
    assert_eq!(warnings(&answer), "null");
}

/// An error of a general parser repeats the text that it could not use.
#[tokio::test]
async fn an_answer_repeats_little_of_what_was_sent() {
    let served = serve();
    let long = "x".repeat(7_000_000);
    let mut dry_run = review_of("CREATE", &deployment("app:1"), &Value::Null);
    dry_run["request"]["dryRun"] = json!(long);
    let mut version = review_of("CREATE", &deployment("app:1"), &Value::Null);
    version["apiVersion"] = json!(long);
    let mut uid = review_of("CREATE", &deployment("app:1"), &Value::Null);
    uid["request"]["uid"] = json!(long);
    for review in [dry_run, version, uid] {
        for path in [MUTATE, HOLD, VALIDATE] {
            let (status, said) = served
                .post_to(path, "application/json", review.to_string())
                .await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(said.len() < 300, "{said}");
        }
    }
}

#[tokio::test]
async fn a_denial_is_short_whatever_it_is_about() {
    let served = serve();
    let control = "\u{10ffff}".repeat(100);
    let annotations = [
        "node-selector",
        "max-nodes",
        "refresh",
        "images",
        "hold-timeout",
        "hold-until",
    ];
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|name| (format!("headstart.dev/{name}"), json!(control)))
        .collect();
    let review = changed(&json!({"metadata": {
        "annotations": annotations, "labels": {"headstart.dev/prefetch": "x".repeat(100_000)},
    }}));
    let said = served.verdict(&review).await.unwrap_err();
    assert!(said.len() <= ANSWER_BYTES && said.ends_with('…'), "{said}");
    assert!(said.contains("use enabled, hold or disabled"), "{said}");
}

#[tokio::test]
async fn a_long_value_of_our_own_is_denied_with_the_limit_however_it_is_written() {
    let served = serve();
    for (name, value, limit) in [
        ("images", "a:1,".repeat(5_000), "more than 16384 bytes"),
        ("images", "\u{1}".repeat(20_000), "more than 16384 bytes"),
        ("node-selector", "a,".repeat(3_000), "more than 4096 bytes"),
        ("max-nodes", "1".repeat(70), "more than 64 bytes"),
    ] {
        let annotations = json!({format!("headstart.dev/{name}"): value});
        let review = changed(&json!({"metadata": {"annotations": annotations}}));
        let said = served.verdict(&review).await.unwrap_err();
        assert!(said.contains(limit), "{said}");
    }
}

/// Any number of keys by headstart's prefix leaves its own where they are.
#[tokio::test]
async fn our_own_annotations_are_found_among_any_number_of_others() {
    let served = serve();
    let mut annotations: serde_json::Map<String, Value> = (0..5_000)
        .map(|i| (format!("headstart.dev/a{i}"), json!("x")))
        .collect();
    annotations.insert("headstart.dev/max-nodes".to_owned(), json!("many"));
    let review = changed(&json!({"metadata": {"annotations": annotations}}));
    let said = served.verdict(&review).await.unwrap_err();
    assert!(said.contains("headstart.dev/max-nodes"), "{said}");
}
