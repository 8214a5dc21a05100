//! The names that prefetch pods and their containers have.

use crate::hash::short_hash;
use crate::workload::Workload;

/// The prefix of the names of prefetch pods.
pub(super) const NAME_PREFIX: &str = "prefetch-";
/// Longest part of a Deployment's name that goes into pod names, so that the whole fits a host name (63).
const NAME_PREFIX_LENGTH: usize = 37;
/// Longest value of a label.
const LABEL_LENGTH: usize = 63;
/// Length of [`short_hash`].
const HASH_LENGTH: usize = 16;

/// The name of the pod: the same for the same Deployment, node and images, so that a second attempt meets
/// `409 Conflict` and not a second pull.
pub fn pod_name(workload: &Workload, node: &str) -> String {
    let prefix = truncated(&workload.key.name, NAME_PREFIX_LENGTH);
    let hash = short_hash([workload.uid.as_str(), node, &workload.image_set.to_string()]);
    format!("{NAME_PREFIX}{prefix}-{hash}")
}

/// The value of [`DEPLOYMENT_LABEL`](crate::api::well_known::DEPLOYMENT_LABEL): the name, or what fits of it and a hash.
pub fn deployment_label(name: &str) -> String {
    if name.len() <= LABEL_LENGTH {
        return name.to_owned();
    }
    format!(
        "{}-{}",
        truncated(name, LABEL_LENGTH - HASH_LENGTH - 1),
        short_hash([name])
    )
}

/// At most the first `length` bytes of a DNS name, without a separator at the end.
fn truncated(name: &str, length: usize) -> &str {
    let (begin, _) = name.split_at(name.floor_char_boundary(length));
    begin.trim_end_matches(['-', '.'])
}

/// The name of the container that stands for the image at this position.
pub(crate) fn container_name(index: usize) -> String {
    format!("image-{index}")
}

/// The position of the image that a container stands for.
pub(crate) fn image_index(container: &str) -> Option<usize> {
    container.strip_prefix("image-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::workload;
    use serde_json::json;

    #[test]
    fn the_name_is_the_same_for_the_same_deployment_node_and_images() {
        let v1 = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
        let v2 = workload(json!({"containers": [{"name": "a", "image": "app:2"}]}));
        assert_eq!(pod_name(&v1, "n1"), pod_name(&v1, "n1"));
        assert_ne!(pod_name(&v1, "n1"), pod_name(&v1, "n2"));
        assert_ne!(pod_name(&v1, "n1"), pod_name(&v2, "n1"));
    }

    /// Stored pods have them. If they change, each upgrade pulls what is `Always` pulled again, and beside a pull that runs.
    #[test]
    fn the_name_and_the_revision_are_those_of_the_previous_release() {
        let mut web = workload(json!({
            "initContainers": [{"name": "i", "image": "init:1"}],
            "containers": [{"name": "a", "image": "registry.example/app:v1.2"}, {"name": "b", "image": "app"}],
        }));
        web.uid = "705ab4f5-6393-11e8-b7cc-42010a800002".into();
        assert_eq!(web.image_set.to_string(), "9b190e5bc42db456");
        assert_eq!(pod_name(&web, "n1"), "prefetch-web-f68fee08244b9b9d");
    }

    #[test]
    fn a_long_name_fits_a_host_name_and_a_label() {
        let mut long = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
        long.key.name = "a.".repeat(126);
        assert!(pod_name(&long, "n1").len() <= 63);
        let label = deployment_label(&long.key.name);
        assert!(
            label.len() <= LABEL_LENGTH && label.starts_with("a.a"),
            "{label}"
        );
    }
}
