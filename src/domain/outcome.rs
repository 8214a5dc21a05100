//! What a prefetch pod's status says about its images.
//!
//! Not its exit code: the kubelet pulls before it starts a container, so any sign that one was created,
//! even one that failed to start, proves the pull.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use super::pod::image_index;

/// Longest message that is kept, in bytes. An Event's note may have 1,024.
const MAX_MESSAGE: usize = 700;

/// What became of one image on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not decided yet.
    Pending,
    /// On the node.
    Pulled,
    /// The registry or the node refused it.
    Failed(Failure),
    /// The node refused the pod, so nothing was tried.
    Rejected(Failure),
}

/// Why, for machines and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class of it.
    pub kind: FailureKind,
    /// What the kubelet, or through it the registry, answered; without credentials.
    pub message: String,
}

/// Classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The registry has no such image.
    NotFound,
    /// The registry refused the credentials, or wants some.
    Unauthorized,
    /// The runtime does not take the reference.
    InvalidName,
    /// The image has no variant for the node's platform.
    WrongPlatform,
    /// The node's disk is full.
    NoSpace,
    /// headstart's own image, which the prefetch pod needs, did not arrive.
    OwnImage,
    /// The node refused the pod.
    Rejected,
    /// The pod had not finished by its deadline.
    Deadline,
    /// Anything that may pass: the network, a registry that is down, a rate limit.
    Transient,
}

impl FailureKind {
    /// For machines: stable, in the style of condition reasons.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Unauthorized => "Unauthorized",
            Self::InvalidName => "InvalidName",
            Self::WrongPlatform => "WrongPlatform",
            Self::NoSpace => "NoSpace",
            Self::OwnImage => "OwnImage",
            Self::Rejected => "Rejected",
            Self::Deadline => "DeadlineExceeded",
            Self::Transient => "Transient",
        }
    }

    /// Whether trying again without a change would meet the same answer.
    pub fn is_definite(self) -> bool {
        matches!(
            self,
            Self::NotFound | Self::Unauthorized | Self::InvalidName | Self::WrongPlatform
        )
    }
}

/// What a pod's status says, image by image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOutcome {
    /// In the order of the workload's images.
    pub images: Vec<Outcome>,
    /// When the pod ended; `None` while it has not.
    pub ended: Option<Timestamp>,
}

impl PodOutcome {
    /// Whether every image has arrived or failed for good.
    pub fn is_decided(&self) -> bool {
        self.images.iter().all(|outcome| match outcome {
            Outcome::Pending => false,
            Outcome::Pulled | Outcome::Rejected(_) => true,
            Outcome::Failed(failure) => self.ended.is_some() || failure.kind.is_definite(),
        })
    }

    /// Whether every image is on the node.
    pub fn is_warm(&self) -> bool {
        self.images
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Pulled))
    }
}

/// Reads a prefetch pod's status. `own_image` is headstart's, to tell its failures from the user's.
pub fn read(pod: &Pod, own_image: &str) -> PodOutcome {
    let count = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let Some(status) = pod.status.as_ref() else {
        return PodOutcome {
            images: vec![Outcome::Pending; count],
            ended: None,
        };
    };
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let init = status
        .init_container_statuses
        .as_deref()
        .unwrap_or_default();
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let by_container = |index: usize| {
        containers
            .iter()
            .find(|c| image_index(&c.name) == Some(index))
            .map_or(Outcome::Pending, |c| of_container(c, own_image))
    };
    // The init container runs headstart's own image; nothing else is tried until it arrived.
    let blocked = init
        .iter()
        .map(|c| of_container(c, own_image))
        .find(|o| matches!(o, Outcome::Failed(_)));
    let images = (0..count)
        .map(by_container)
        .map(|outcome| match (outcome, &blocked) {
            (Outcome::Pending, Some(blocked)) => blocked.clone(),
            (Outcome::Pending, None) if over => {
                ended_without(status.reason.as_deref(), status.message.as_deref())
            }
            (outcome, _) => outcome,
        })
        .collect();
    let ended = over.then(|| {
        let finished = containers
            .iter()
            .filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
            .map(|time| time.0)
            .max();
        finished
            .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    });
    PodOutcome { images, ended }
}

fn of_container(container: &ContainerStatus, own_image: &str) -> Outcome {
    let Some(state) = container.state.as_ref() else {
        return Outcome::Pending;
    };
    // The kubelet invents a terminated state for containers of a pod that it never started, without an image.
    if state.running.is_some() || (state.terminated.is_some() && !container.image_id.is_empty()) {
        return Outcome::Pulled;
    }
    let Some(waiting) = state.waiting.as_ref() else {
        return Outcome::Pending;
    };
    let message = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref().unwrap_or_default() {
        "InvalidImageName" => failed(FailureKind::InvalidName, message),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed"
        | "ErrImageNeverPull" => {
            let ours = !own_image.is_empty() && message.contains(own_image);
            failed(
                if ours {
                    FailureKind::OwnImage
                } else {
                    classify(message)
                },
                message,
            )
        }
        // In the kubelet's startContainer the pull comes before each of these.
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "CrashLoopBackOff" => Outcome::Pulled,
        _ => Outcome::Pending,
    }
}

/// A pod that ended while this image was still undecided.
fn ended_without(reason: Option<&str>, message: Option<&str>) -> Outcome {
    let message = message.unwrap_or_default();
    match reason.unwrap_or_default() {
        "DeadlineExceeded" => failed(FailureKind::Deadline, message),
        reason => Outcome::Rejected(Failure {
            kind: FailureKind::Rejected,
            message: presentable(&format!("{reason}: {message}")),
        }),
    }
}

fn failed(kind: FailureKind, message: &str) -> Outcome {
    Outcome::Failed(Failure {
        kind,
        message: presentable(message),
    })
}

/// The runtimes answer in prose. These are the phrases of containerd 2 and CRI-O (containers/image), in the
/// order in which one message can contain several.
fn classify(message: &str) -> FailureKind {
    let message = message.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    if says(&["no space left on device", "disk quota exceeded"]) {
        FailureKind::NoSpace
    } else if says(&["429 too many requests", "toomanyrequests"]) {
        FailureKind::Transient
    } else if says(&[
        "no match for platform",
        "no image found in image index for architecture",
        "no matching manifest",
    ]) {
        FailureKind::WrongPlatform
    } else if says(&[
        "401 unauthorized",
        "403 forbidden",
        "pull access denied",
        "insufficient_scope",
        "authorization failed",
        "authentication required",
        "unauthorized:",
        "access to the requested resource is not authorized",
        "requested access to the resource is denied",
    ]) {
        FailureKind::Unauthorized
    } else if says(&[
        "code = notfound",
        "manifest unknown",
        "name unknown",
        "404 not found",
    ]) {
        FailureKind::NotFound
    } else if says(&["invalid reference format", "couldn't parse image"]) {
        FailureKind::InvalidName
    } else {
        FailureKind::Transient
    }
}

/// The message without what a registry may have put into its URLs: pre-signed queries and user names with
/// passwords are credentials.
fn presentable(message: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in message.split_whitespace() {
        words.push(if word.contains("://") {
            without_credentials(word)
        } else {
            word.to_owned()
        });
    }
    let mut line = words.join(" ");
    if line.len() > MAX_MESSAGE {
        let cut = (0..=MAX_MESSAGE)
            .rev()
            .find(|at| line.is_char_boundary(*at))
            .unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    line
}

fn without_credentials(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let (rest, query) = match rest.split_once('?') {
        // What closes the URL in the sentence is kept.
        Some((rest, query)) => (
            rest,
            Some(query.trim_start_matches(|c: char| !matches!(c, '"' | '\''))),
        ),
        None => (rest, None),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match query {
        Some(closing) => format!("{scheme}://{host}{path}?…{closing}"),
        None => format!("{scheme}://{host}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn outcome(status: Value) -> PodOutcome {
        let pod = serde_json::from_value(json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "image-0"}, {"name": "image-1"}]},
            "status": status,
        }))
        .unwrap();
        read(&pod, "registry.local/headstart:v1")
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

    fn kind(outcome: &Outcome) -> Option<FailureKind> {
        match outcome {
            Outcome::Failed(failure) | Outcome::Rejected(failure) => Some(failure.kind),
            Outcome::Pending | Outcome::Pulled => None,
        }
    }

    #[test]
    fn a_new_pod_is_pending() {
        let pod = outcome(json!({"phase": "Pending"}));
        assert_eq!(pod.images, [Outcome::Pending, Outcome::Pending]);
        assert!(!pod.is_decided() && pod.ended.is_none());
    }

    #[test]
    fn any_sign_of_a_container_proves_the_pull() {
        let terminated = |code: i32| json!({"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:00:09Z"}});
        for state in [json!({"running": {}}), terminated(0), terminated(128)] {
            let pod = outcome(
                json!({"phase": "Running", "containerStatuses": [container(0, "sha256:1", state)]}),
            );
            assert_eq!(pod.images, [Outcome::Pulled, Outcome::Pending]);
        }
        let pod = outcome(
            json!({"containerStatuses": [waiting(0, "CreateContainerConfigError", "runs as root")]}),
        );
        assert_eq!(pod.images[0], Outcome::Pulled);
    }

    #[test]
    fn a_finished_pod_tells_when() {
        let done = json!({"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:00:09Z"}});
        let pod = outcome(json!({"phase": "Succeeded", "containerStatuses": [
            container(0, "sha256:1", done.clone()), container(1, "sha256:2", done),
        ]}));
        assert!(pod.is_warm() && pod.is_decided());
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
                "failed to pull registry.local/headstart:v1: not found",
                FailureKind::OwnImage,
            ),
        ];
        for (message, expected) in table {
            let pod = outcome(
                json!({"phase": "Pending", "containerStatuses": [waiting(1, "ErrImagePull", message)]}),
            );
            assert_eq!(kind(&pod.images[1]), Some(expected), "{message}");
        }
    }

    #[test]
    fn a_definite_failure_decides_and_a_transient_one_waits() {
        let pod = |message: &str| {
            let done = container(0, "sha256:1", json!({"running": {}}));
            outcome(
                json!({"phase": "Pending", "containerStatuses": [done, waiting(1, "ErrImagePull", message)]}),
            )
        };
        assert!(pod("code = NotFound").is_decided());
        assert!(!pod("connection refused").is_decided());
    }

    #[test]
    fn a_pod_that_the_node_refused_says_so() {
        let pod = outcome(
            json!({"phase": "Failed", "reason": "OutOfpods", "message": "Node didn't have enough resource"}),
        );
        assert_eq!(kind(&pod.images[0]), Some(FailureKind::Rejected));
        let Outcome::Rejected(failure) = &pod.images[0] else {
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
        let pod = outcome(
            json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active too long"}),
        );
        assert_eq!(kind(&pod.images[0]), Some(FailureKind::Deadline));
    }

    #[test]
    fn messages_carry_no_credentials() {
        let message =
            presentable("Get \"https://me:hunter2@blobs.io/x?X-Amz-Signature=abc&y=1\": EOF");
        assert_eq!(message, "Get \"https://blobs.io/x?…\": EOF");
        assert_eq!(
            presentable(&"é".repeat(900)).len(),
            MAX_MESSAGE + '…'.len_utf8()
        );
    }
}
