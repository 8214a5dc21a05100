//! For any request: the proper status or an allowing answer, one line in the log, no panic, no user's write refused.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::admission::client::{Tls, is_allowed, post, post_as, review};
use crate::admission::installation::{Installation, SHOP};
use crate::admission::load::one_replica;
use crate::admission::replica::Replica;

const JSON: &str = "application/json";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_review_gets_its_status_and_one_line_in_the_log() {
    let installation = Installation::new().await;
    let (replica, tls) = one_replica(&installation).await;
    let too_long = "x".repeat(10 << 20);
    let other_kind = review("web", 10).replace("AdmissionReview", "ConversionReview");
    let cases = [
        ("malformed JSON", JSON, "{\"kind\":", 400),
        ("another kind", JSON, other_kind.as_str(), 400),
        (
            "missing fields",
            JSON,
            "{\"kind\":\"AdmissionReview\"}",
            400,
        ),
        ("nothing", JSON, "", 400),
        ("10 MB", JSON, too_long.as_str(), 413),
        ("another content type", "text/plain", "{}", 415),
    ];
    for (what, content_type, body, expected) in cases {
        let before = replica.log();
        let mut stream = tls.connect(replica.port).await.unwrap();
        let (status, message) = post_as(&mut stream, "/mutate?timeout=2s", content_type, body)
            .await
            .unwrap();
        assert_eq!(status, expected, "{what}: {message}");
        replica
            .says(&before, "refused a request that is no review")
            .await;
        let lines = replica.log()[before.len()..]
            .matches("refused a request that is no review")
            .count();
        assert_eq!(lines, 1, "{what}");
    }
    plain_http_is_told_what_the_port_speaks(&replica).await;
    still_answers(&replica, &tls).await;
}

async fn plain_http_is_told_what_the_port_speaks(replica: &Replica) {
    let before = replica.log();
    let mut stream = TcpStream::connect(("127.0.0.1", replica.port))
        .await
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: headstart\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("speaks HTTPS"),
        "{answer}"
    );
    replica.says(&before, "plain HTTP on the HTTPS port").await;
}

async fn still_answers(replica: &Replica, tls: &Tls) {
    let mut stream = tls.connect(replica.port).await.unwrap();
    assert!(is_allowed(
        &post(&mut stream, "/mutate?timeout=2s", &review("web", 10)).await
    ));
    assert!(!replica.log().contains("panicked"), "{}", replica.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unparsable_image_and_five_hundred_images_are_stored_with_a_warning() {
    let installation = Installation::new().await;
    let (replica, tls) = one_replica(&installation).await;
    let failed = installation.failed_open().await;
    let many: Vec<String> = (0..500).map(|index| format!("app:{index}")).collect();
    let one = vec!["Not Valid".to_owned()];
    for (name, images, warning) in [
        ("unparsable", one, "headstart: image Not Valid: "),
        ("many", many, "only the first 64 images"),
    ] {
        let containers = images
            .iter()
            .enumerate()
            .map(|(index, image)| json!({ "name": format!("c{index}"), "image": image }));
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "namespace": SHOP, "name": name },
            "spec": {
                "replicas": 0,
                "selector": { "matchLabels": { "app": name } },
                "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": containers.collect::<Vec<_>>() } },
            },
        });
        // kubectl prints warnings beside its result; as errors they are its message, and the object is stored.
        let create = ["create", "--warnings-as-errors", "-f", "-"];
        let said = installation
            .cluster
            .kubectl_with_input(&create, &object.to_string())
            .await
            .unwrap_err();
        assert!(said.to_string().contains(warning), "{name}: {said}");
        installation
            .cluster
            .kubectl(&["get", "deployment", "-n", SHOP, name])
            .await
            .unwrap();
    }
    assert_eq!(
        installation.failed_open().await,
        failed,
        "every call was answered"
    );
    still_answers(&replica, &tls).await;
}
