use super::*;
use crate::pod::message::MAX_MESSAGE;
use serde_json::{Value, json};

fn summary(status: Value) -> PodStatusSummary {
    let pod = serde_json::from_value(json!({
        "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "image-0"}, {"name": "image-1"}]},
        "status": status,
    }))
    .unwrap();
    summarize(&pod, "registry.local/headstart:v1")
}

fn container(index: usize, image_id: &str, state: Value) -> Value {
    json!({"name": format!("image-{index}"), "image": "", "imageID": image_id, "ready": false, "restartCount": 0, "state": state})
}

fn waiting(index: usize, reason: &str, message: &str) -> Value {
    container(
        index,
        "",
        json!({"waiting": {"reason": reason, "message": message}}),
    )
}

fn kind(status: &ImageStatus) -> Option<FailureKind> {
    match status {
        ImageStatus::Failed(failure) | ImageStatus::Rejected(failure) => Some(failure.kind),
        ImageStatus::Pending | ImageStatus::Pulled => None,
    }
}

#[test]
fn a_new_pod_is_pending() {
    let pod = summary(json!({"phase": "Pending"}));
    assert_eq!(pod.images, [ImageStatus::Pending, ImageStatus::Pending]);
    assert!(!pod.is_final() && pod.ended.is_none());
}

#[test]
fn any_sign_of_a_container_proves_the_pull() {
    let terminated =
        |code: i32| json!({"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:00:09Z"}});
    for state in [json!({"running": {}}), terminated(0), terminated(128)] {
        let pod = summary(
            json!({"phase": "Running", "containerStatuses": [container(0, "sha256:1", state)]}),
        );
        assert_eq!(pod.images, [ImageStatus::Pulled, ImageStatus::Pending]);
    }
    let pod = summary(
        json!({"containerStatuses": [waiting(0, "CreateContainerConfigError", "runs as root")]}),
    );
    assert_eq!(pod.images[0], ImageStatus::Pulled);
}

#[test]
fn a_finished_pod_tells_when() {
    let done = json!({"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:00:09Z"}});
    let pod = summary(json!({"phase": "Succeeded", "containerStatuses": [
        container(0, "sha256:1", done.clone()), container(1, "sha256:2", done),
    ]}));
    assert!(pod.all_pulled() && pod.is_final());
    assert_eq!(pod.ended, Some("2026-01-01T00:00:09Z".parse().unwrap()));
}

#[test]
fn failures_are_told_apart_by_what_the_runtime_says() {
    let table = [
        (
            "rpc error: code = NotFound desc = failed to pull and unpack image \"a\": not found",
            FailureKind::NotFound,
        ),
        (
            "Back-off pulling image \"a\": ErrImagePull: rpc error: code = NotFound desc = a",
            FailureKind::NotFound,
        ),
        (
            "unexpected status from HEAD request to http://r/v2/a/manifests/1: 401 Unauthorized",
            FailureKind::Unauthorized,
        ),
        (
            "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope",
            FailureKind::Unauthorized,
        ),
        (
            "no match for platform in manifest: not found",
            FailureKind::WrongPlatform,
        ),
        (
            "write /var/lib/x: no space left on device",
            FailureKind::NoSpace,
        ),
        (
            "unexpected status: 429 Too Many Requests",
            FailureKind::Transient,
        ),
        (
            "dial tcp 10.0.0.1:443: connect: connection refused",
            FailureKind::Transient,
        ),
        (
            "rpc error: code = Unknown desc = failed to pull and unpack image \"gone.test/a:1\": failed to resolve reference \"gone.test/a:1\": failed to do request: Head \"https://gone.test/v2/a/manifests/1\": dial tcp: lookup gone.test on 10.96.0.10:53: no such host",
            FailureKind::HostNotFound,
        ),
        (
            "Back-off pulling image \"gone.test/a:1\": ErrImagePull: unable to pull image: initializing source docker://gone.test/a:1: pinging container registry gone.test: Get \"https://gone.test/v2/\": dial tcp: lookup gone.test: no such host",
            FailureKind::HostNotFound,
        ),
        (
            "failed to do request: Head \"https://r.test/v2/a/manifests/1\": dial tcp: lookup r.test on 10.96.0.10:53: server misbehaving",
            FailureKind::Transient,
        ),
        (
            "failed to do request: Head \"https://r.test/v2/a/manifests/1\": dial tcp: lookup r.test on 10.96.0.10:53: read udp 10.0.0.2:4: i/o timeout",
            FailureKind::Transient,
        ),
        (
            "failed to pull registry.local/headstart:v1: not found",
            FailureKind::OwnImage,
        ),
        (
            "Back-off pulling image \"registry.local/headstart:v1\"",
            FailureKind::OwnImage,
        ),
        (
            "failed to pull and unpack image \"registry.local/headstart:v1.2\": not found: code = NotFound",
            FailureKind::OwnImage,
        ),
        (
            "failed to pull and unpack image \"registry.local/headstart-app:v1\": not found: code = NotFound",
            FailureKind::NotFound,
        ),
        (
            "failed to pull and unpack image \"registry.local/headstart@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\": not found",
            FailureKind::OwnImage,
        ),
        (
            "reading manifest 1 in ghcr.io/a/b: manifest unknown",
            FailureKind::NotFound,
        ),
        (
            "no image found in image index for architecture \"arm64\", variant \"v8\", OS \"linux\"",
            FailureKind::WrongPlatform,
        ),
        (
            "authorization failed: no basic auth credentials",
            FailureKind::Unauthorized,
        ),
    ];
    for (message, expected) in table {
        let pod = summary(
            json!({"phase": "Pending", "containerStatuses": [waiting(1, "ErrImagePull", message)]}),
        );
        assert_eq!(kind(&pod.images[1]), Some(expected), "{message}");
    }
}

#[test]
fn a_definite_failure_decides_and_a_transient_one_waits() {
    let pod = |message: &str| {
        let done = container(0, "sha256:1", json!({"running": {}}));
        summary(
            json!({"phase": "Pending", "containerStatuses": [done, waiting(1, "ErrImagePull", message)]}),
        )
    };
    assert!(pod("code = NotFound").is_final());
    assert!(!pod("connection refused").is_final());
}

#[test]
fn a_pod_that_the_node_refused_says_so() {
    let pod = summary(
        json!({"phase": "Failed", "reason": "OutOfpods", "message": "Node didn't have enough resource"}),
    );
    assert_eq!(kind(&pod.images[0]), Some(FailureKind::Rejected));
    let ImageStatus::Rejected(failure) = &pod.images[0] else {
        panic!("rejected")
    };
    assert!(
        failure.message.starts_with("OutOfpods: Node"),
        "{}",
        failure.message
    );
}

#[test]
fn a_pod_past_its_deadline_failed_by_it() {
    let pod = summary(
        json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active too long"}),
    );
    assert_eq!(kind(&pod.images[0]), Some(FailureKind::Deadline));
}

#[test]
fn messages_carry_no_credentials() {
    assert_eq!(
        redact("sent Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.x and Basic auth failed"),
        "sent Authorization: Bearer … and Basic auth failed"
    );
    let message = redact("Get \"https://me:hunter2@blobs.io/x?X-Amz-Signature=abc&y=1\": EOF");
    assert_eq!(message, "Get \"https://blobs.io/x?…\": EOF");
    assert_eq!(redact(&"é".repeat(900)).len(), MAX_MESSAGE + '…'.len_utf8());
}

#[test]
fn what_the_runtime_could_not_say_in_a_reason_is_a_failure_that_may_pass() {
    let pod = |reason: &str| {
        let status = json!({"phase": "Pending", "containerStatuses": [waiting(0, reason, "")]});
        summary(status).images.remove(0)
    };
    for reason in ["", "ContainerCreating", "PodInitializing"] {
        assert_eq!(pod(reason), ImageStatus::Pending, "{reason}");
    }
    assert_eq!(
        kind(&pod("failed to read secret")),
        Some(FailureKind::Transient)
    );
    assert_eq!(
        kind(&pod("SignatureValidationFailed")),
        Some(FailureKind::Signature)
    );
}

#[test]
fn a_bad_image_is_reported_while_the_others_go_on() {
    let pod = summary(json!({"phase": "Pending", "containerStatuses": [
        waiting(0, "ContainerCreating", ""),
        waiting(1, "ErrImagePull", "rpc error: code = NotFound desc = gone"),
    ]}));
    assert_eq!(pod.images[0], ImageStatus::Pending);
    assert_eq!(kind(&pod.images[1]), Some(FailureKind::NotFound));
    assert!(!pod.is_final());
}

#[test]
fn every_way_to_be_thrown_out_says_its_reason() {
    let reasons = [
        "OutOfpods",
        "OutOfcpu",
        "OutOfmemory",
        "TaintToleration",
        "NodeAffinity",
        "NodeShutdown",
        "Terminated",
        "Evicted",
        "Preempting",
        "UnexpectedAdmissionError",
    ];
    for reason in reasons {
        let done = container(0, "sha256:1", json!({"terminated": {"exitCode": 0}}));
        let unknown = json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}});
        let pod = summary(json!({
            "phase": "Failed", "reason": reason, "message": "because",
            "containerStatuses": [done, container(1, "", unknown)],
        }));
        assert_eq!(
            pod.images[0],
            ImageStatus::Pulled,
            "{reason}: what came before counts"
        );
        let ImageStatus::Rejected(failure) = &pod.images[1] else {
            panic!("{reason}: {:?}", pod.images[1]);
        };
        assert_eq!(failure.message, format!("{reason}: because"));
        assert!(pod.is_final());
    }
    let pod = summary(json!({"phase": "Failed"}));
    assert!(
        matches!(&pod.images[0], ImageStatus::Rejected(failure) if failure.message.contains("ended"))
    );
}

#[test]
fn a_pod_that_the_scheduler_refuses_says_what_the_scheduler_says() {
    let scheduled = |reason: &str| {
        summary(json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason,
            "message": "0/3 nodes are available: 1 Insufficient cpu.",
        }]}))
    };
    let pod = scheduled("Unschedulable");
    assert!(pod.is_final() && !pod.all_pulled());
    let ImageStatus::Rejected(failure) = &pod.images[0] else {
        panic!("rejected");
    };
    assert_eq!(
        failure.message,
        "Unschedulable: 0/3 nodes are available: 1 Insufficient cpu."
    );
    assert_eq!(scheduled("SchedulingGated").images[0], ImageStatus::Pending);
}

#[test]
fn a_pod_whose_node_is_gone_is_lost_whatever_it_had() {
    let done = || container(0, "sha256:1", json!({"terminated": {"exitCode": 0}}));
    let collected = json!([{
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
    }]);
    for status in [
        json!({"phase": "Failed", "conditions": collected, "containerStatuses": [done()]}),
        json!({"phase": "Unknown", "containerStatuses": [done()]}),
        json!({"phase": "Running", "reason": "NodeLost", "containerStatuses": [done()]}),
    ] {
        let pod = summary(status.clone());
        assert!(pod.is_final() && !pod.all_pulled(), "{status}");
        for image in &pod.images {
            assert_eq!(kind(image), Some(FailureKind::Lost), "{status}");
        }
    }
    let evicted =
        json!([{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]);
    let pod = summary(json!({"phase": "Running", "conditions": evicted}));
    assert_eq!(pod.images[0], ImageStatus::Pending);
}
