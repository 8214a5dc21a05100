//! What a Deployment asks of a prefetch: its images, where its pods may land, and how far its rollout is.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PodSpec, Toleration};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::contract::{Mode, UnknownMode, labelled_mode};
use super::image::{ImageRef, InvalidImage};

/// The most images of one Deployment that are prefetched. One pod pulls them all, with a container for
/// each; a kubelet starts that many quickly, and no workload seen in the wild comes near it.
pub const MAX_IMAGES: usize = 64;

/// Condition type and reasons of the Deployment controller (`pkg/controller/deployment/util`).
const PROGRESSING: &str = "Progressing";
const NEW_REPLICA_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// Names a Deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Identifies a set of images, whatever their order: two templates with the same images have the same
/// revision, and nothing needs to be pulled between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(String);

impl Revision {
    fn of(images: &[Image], invalid: &[Refused]) -> Self {
        let mut lines: Vec<String> = images
            .iter()
            .map(|image| image.reference.to_string())
            .chain(invalid.iter().map(|refused| refused.given.clone()))
            .collect();
        lines.sort_unstable();
        Self(short_hash(lines.iter().map(String::as_str)))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Revision {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

/// 64 bits of SHA-256 over the parts, as 16 hexadecimal digits: fits a label and a name, and does not
/// collide among the objects of one cluster.
pub(crate) fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    use fmt::Write;
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize()[..8]
        .iter()
        .fold(String::with_capacity(16), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// One image to have on the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The normalised reference: what makes two spellings the same image.
    pub reference: ImageRef,
    /// The spelling of the template. The prefetch uses this one, because the kubelet files its record of
    /// who may use a pulled image (KEP-2535) under the spelling that pulled it.
    pub given: String,
    /// Whether the registry is asked even where the image is present, as the rollout's pods would.
    pub always: bool,
}

/// One image of the template that cannot be prefetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the template says.
    pub given: String,
    /// Why it cannot.
    pub reason: Refusal,
}

/// Why an image of the template is not prefetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No runtime would take the reference.
    #[error("{0}")]
    Invalid(#[from] InvalidImage),
    /// There are more than headstart prefetches for one Deployment.
    #[error("only the first {MAX_IMAGES} images of a Deployment are prefetched")]
    TooMany,
}

/// Where the template's pods may be scheduled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// `spec.nodeName`: this node and no other.
    pub node_name: Option<String>,
    /// `spec.nodeSelector`: labels the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Toleration>,
}

/// How far the Deployment controller is with the newest template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The controller is done with it, whether it succeeded or gave up.
    pub settled: bool,
    /// When it last made progress.
    pub progressed: Option<Timestamp>,
}

impl Rollout {
    /// Whether pods of this rollout may still have to start, or did within `window` before `now`.
    ///
    /// This is what a new leader asks of every Deployment. Finished prefetch pods are kept for at least
    /// that window after the rollout, so within it a missing pod was never made.
    pub fn is_recent(&self, now: Timestamp, window: SignedDuration) -> bool {
        !self.settled
            || self
                .progressed
                .is_some_and(|at| now.duration_since(at) < window)
    }
}

/// A Deployment, reduced to what a prefetch needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Namespace and name.
    pub key: Key,
    /// The object's UID; empty in a review of a create, which has none yet.
    pub uid: String,
    /// What its own label asks for.
    pub mode: Result<Option<Mode>, UnknownMode>,
    /// Each unique image once: init containers' first, as a pod pulls them, then containers', then those of
    /// image volumes.
    pub images: Vec<Image>,
    /// What cannot be prefetched, and why.
    pub refused: Vec<Refused>,
    /// Identifies the images.
    pub revision: Revision,
    /// Where its pods may land.
    pub placement: Placement,
    /// Names of the Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// The ServiceAccount, whose pull secrets apply as well.
    pub service_account: Option<String>,
    /// How far its rollout is.
    pub rollout: Rollout,
}

impl Workload {
    /// Reads a Deployment; `None` if it has no name or no template, which no stored one lacks.
    pub fn from_deployment(deployment: &Deployment) -> Option<Self> {
        let metadata = &deployment.metadata;
        let key = Key {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
        };
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        let (images, refused) = images_of(pod);
        Some(Self {
            key,
            uid: metadata.uid.clone().unwrap_or_default(),
            mode: labelled_mode(metadata.labels.as_ref()),
            revision: Revision::of(&images, &refused),
            images,
            refused,
            placement: Placement {
                node_name: pod.node_name.clone().filter(|name| !name.is_empty()),
                node_selector: pod.node_selector.clone().unwrap_or_default(),
                tolerations: pod.tolerations.clone().unwrap_or_default(),
            },
            image_pull_secrets: pod
                .image_pull_secrets
                .iter()
                .flatten()
                .map(|secret| secret.name.clone())
                .filter(|name| !name.is_empty())
                .collect(),
            service_account: pod
                .service_account_name
                .clone()
                .filter(|name| !name.is_empty()),
            rollout: rollout_of(deployment),
        })
    }
}

fn images_of(pod: &PodSpec) -> (Vec<Image>, Vec<Refused>) {
    let containers = pod.init_containers.iter().flatten().chain(&pod.containers);
    let of_containers = containers.map(|c| {
        (
            c.image.as_deref().unwrap_or_default(),
            c.image_pull_policy.as_deref(),
        )
    });
    let of_volumes = pod.volumes.iter().flatten().filter_map(|volume| {
        let image = volume.image.as_ref()?;
        Some((
            image.reference.as_deref().unwrap_or_default(),
            image.pull_policy.as_deref(),
        ))
    });
    let mut images: Vec<Image> = Vec::new();
    let mut refused: Vec<Refused> = Vec::new();
    for (given, policy) in of_containers.chain(of_volumes) {
        // A template may leave an image empty for another controller to fill in; with Never it says that
        // the image is not to be pulled.
        if given.is_empty() || policy == Some("Never") {
            continue;
        }
        let always = policy == Some("Always");
        let reason = match given.parse::<ImageRef>() {
            Ok(reference) => {
                if let Some(known) = images.iter_mut().find(|image| image.reference == reference) {
                    known.always |= always;
                    continue;
                }
                if images.len() < MAX_IMAGES {
                    images.push(Image {
                        reference,
                        given: given.to_owned(),
                        always,
                    });
                    continue;
                }
                Refusal::TooMany
            }
            Err(error) => Refusal::Invalid(error),
        };
        if refused.iter().all(|known| known.given != given) {
            refused.push(Refused {
                given: given.to_owned(),
                reason,
            });
        }
    }
    (images, refused)
}

fn rollout_of(deployment: &Deployment) -> Rollout {
    let Some(status) = deployment.status.as_ref() else {
        return Rollout::default();
    };
    let progressing = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == PROGRESSING);
    let observed = status.observed_generation >= deployment.metadata.generation;
    Rollout {
        settled: observed
            && progressing
                .and_then(|c| c.reason.as_deref())
                .is_some_and(|reason| {
                    matches!(
                        reason,
                        NEW_REPLICA_SET_AVAILABLE | PROGRESS_DEADLINE_EXCEEDED
                    )
                }),
        progressed: progressing
            .and_then(|c| c.last_update_time.as_ref())
            .map(|time| time.0),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// The Deployment `shop/web` with this pod spec.
    pub(crate) fn workload(spec: serde_json::Value) -> Workload {
        let deployment = serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "web", "generation": 2},
            "spec": {"selector": {}, "template": {"spec": spec}},
        }))
        .unwrap();
        Workload::from_deployment(&deployment).unwrap()
    }

    fn given(workload: &Workload) -> Vec<&str> {
        workload
            .images
            .iter()
            .map(|image| image.given.as_str())
            .collect()
    }

    #[test]
    fn each_image_counts_once_in_the_order_that_a_pod_pulls_them() {
        let web = workload(json!({
            "initContainers": [{"name": "i", "image": "init:1"}],
            "containers": [
                {"name": "a", "image": "app:1"},
                {"name": "b", "image": "docker.io/library/app:1", "imagePullPolicy": "Always"},
            ],
            "volumes": [{"name": "v", "image": {"reference": "data:1"}}, {"name": "e", "emptyDir": {}}],
        }));
        assert_eq!(given(&web), ["init:1", "app:1", "data:1"]);
        assert!(
            web.images[1].always,
            "one container of two always asks the registry"
        );
    }

    #[test]
    fn what_must_not_or_cannot_be_pulled_is_left_out() {
        let web = workload(json!({"containers": [
            {"name": "a", "image": "app:1", "imagePullPolicy": "Never"},
            {"name": "b", "image": "Not Valid"},
            {"name": "c"},
        ]}));
        assert!(web.images.is_empty());
        assert_eq!(web.refused.len(), 1);
        assert_eq!(web.refused[0].given, "Not Valid");
    }

    #[test]
    fn more_images_than_the_limit_are_refused_by_name() {
        let containers: Vec<_> = (0..500)
            .map(|i| json!({"name": format!("c{i}"), "image": format!("app:{i}")}))
            .collect();
        let web = workload(json!({"containers": containers}));
        assert_eq!(web.images.len(), MAX_IMAGES);
        assert_eq!(web.refused.len(), 500 - MAX_IMAGES);
        assert_eq!(web.refused[0].reason, Refusal::TooMany);
    }

    #[test]
    fn the_revision_follows_the_images_and_nothing_else() {
        let one = workload(
            json!({"containers": [{"name": "a", "image": "a"}, {"name": "b", "image": "b"}]}),
        );
        let swapped = workload(json!({
            "containers": [{"name": "a", "image": "b:latest"}, {"name": "b", "image": "a"}],
            "nodeSelector": {"pool": "web"},
        }));
        let other = workload(
            json!({"containers": [{"name": "a", "image": "a"}, {"name": "b", "image": "b:2"}]}),
        );
        assert_eq!(one.revision, swapped.revision);
        assert_ne!(one.revision, other.revision);
    }

    #[test]
    fn a_rollout_is_recent_until_it_settled_longer_than_the_window_ago() {
        let at = |status: serde_json::Value| {
            let deployment: Deployment =
                serde_json::from_value(json!({"metadata": {"generation": 2}, "status": status}))
                    .unwrap();
            rollout_of(&deployment)
        };
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let window = SignedDuration::from_mins(5);
        let condition = |reason: &str, time: &str| json!([{"type": "Progressing", "status": "True", "reason": reason, "lastUpdateTime": time}]);
        let recent = |generation: i64, reason: &str, time: &str| {
            at(json!({"observedGeneration": generation, "conditions": condition(reason, time)}))
                .is_recent(now, window)
        };
        assert!(at(json!({})).is_recent(now, window), "no status yet");
        assert!(
            recent(2, "ReplicaSetUpdated", "2026-01-01T00:00:00Z"),
            "still under way"
        );
        assert!(
            recent(2, "NewReplicaSetAvailable", "2026-01-01T00:06:00Z"),
            "complete within the window"
        );
        assert!(
            !recent(2, "NewReplicaSetAvailable", "2026-01-01T00:04:00Z"),
            "complete before it"
        );
        assert!(
            recent(1, "NewReplicaSetAvailable", "2026-01-01T00:04:00Z"),
            "a newer template is not observed yet"
        );
        assert!(
            !recent(2, "ProgressDeadlineExceeded", "2026-01-01T00:04:00Z"),
            "given up"
        );
    }
}
