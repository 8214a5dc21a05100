//! Tests the refusals of headstart's own label and annotations.

use super::*;

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
        // Stored before headstart was installed: it must not prevent another change.
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
