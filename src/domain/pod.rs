//! The pod that brings a Deployment's images to one node.
//!
//! It passes the `restricted` Pod Security level, runs nothing of the user's image where image volumes are
//! available and needs no shell anywhere, carries no label a Service could select, and keeps sidecar
//! injectors out.

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, ImageVolumeSource, LocalObjectReference, Pod,
    PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::contract::{DEPLOYMENT_LABEL, MANAGED_BY_LABEL, MANAGER, REVISION_LABEL};
use super::node::PullMethod;
use super::workload::{Image, Workload, short_hash};

/// Hidden subcommands of the one binary that prefetch pods run.
pub const NOOP_COMMAND: &str = "noop";
/// Copies the binary to where the user's images can run it as a no-op.
pub const COPY_SELF_COMMAND: &str = "copy-self";

/// Where the binary is in headstart's own image.
const OWN_BINARY: &str = "/headstart";
/// Where the no-op is mounted in the containers of users' images.
const NOOP_DIRECTORY: &str = "/.headstart";
const NOOP_VOLUME: &str = "noop";
/// User and group of the containers: any but root does, and this one is "nobody" by custom of static images.
const NOBODY: i64 = 65532;
/// Longest part of a Deployment's name that goes into pod names, so that the whole fits a host name (63).
const NAME_PREFIX_LENGTH: usize = 37;
/// Longest value of a label.
const LABEL_LENGTH: usize = 63;
/// Length of [`short_hash`].
const HASH_LENGTH: usize = 16;

/// Labels and annotations by which sidecar injectors are told to stay out: a sidecar would need an image of
/// its own and never end.
const STAY_OUT: [(&str, &str); 5] = [
    ("sidecar.istio.io/inject", "false"),
    ("linkerd.io/inject", "disabled"),
    ("kuma.io/sidecar-injection", "disabled"),
    ("consul.hashicorp.com/connect-inject", "false"),
    ("dapr.io/enabled", "false"),
];

/// What all prefetch pods have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSettings {
    /// headstart's own image, which holds the no-op.
    pub noop_image: String,
    /// Pull this way on every node, rather than in the best way that each can.
    pub method: Option<PullMethod>,
    /// The PriorityClass, none if absent.
    pub priority_class: Option<String>,
    /// Seconds after which the kubelet ends a pod that is still not done.
    pub deadline_seconds: i64,
}

/// The name of the pod: the same for the same Deployment, node and images, so that a second attempt meets
/// `409 Conflict` and not a second pull.
pub fn pod_name(workload: &Workload, node: &str) -> String {
    let prefix = truncated(&workload.key.name, NAME_PREFIX_LENGTH);
    let hash = short_hash([workload.uid.as_str(), node, &workload.revision.to_string()]);
    format!("prefetch-{prefix}-{hash}")
}

/// The value of [`DEPLOYMENT_LABEL`]: the name, or what fits of it and a hash.
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

/// The first `length` bytes of a DNS name, without a separator at the end.
fn truncated(name: &str, length: usize) -> &str {
    name.get(..length)
        .unwrap_or(name)
        .trim_end_matches(['-', '.'])
}

/// The name of the container that stands for the image at this position.
pub(crate) fn container_name(index: usize) -> String {
    format!("image-{index}")
}

/// The position of the image that a container stands for.
pub(crate) fn image_index(container: &str) -> Option<usize> {
    container.strip_prefix("image-")?.parse().ok()
}

/// The whole pod.
pub fn prefetch_pod(
    workload: &Workload,
    node: &str,
    method: PullMethod,
    settings: &PodSettings,
) -> Pod {
    let mut spec = common_spec(workload, node, settings);
    spec.merge_from(match method {
        PullMethod::ImageVolume => with_image_volumes(&workload.images, settings),
        PullMethod::Container => with_containers(&workload.images, settings),
    });
    let stay_out = || {
        STAY_OUT
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
    };
    let mut labels: BTreeMap<String, String> = stay_out().collect();
    labels.insert(MANAGED_BY_LABEL.into(), MANAGER.into());
    labels.insert(
        DEPLOYMENT_LABEL.into(),
        deployment_label(&workload.key.name),
    );
    labels.insert(REVISION_LABEL.into(), workload.revision.to_string());
    Pod {
        metadata: ObjectMeta {
            name: Some(pod_name(workload, node)),
            namespace: Some(workload.key.namespace.clone()),
            labels: Some(labels),
            annotations: Some(stay_out().collect()),
            owner_references: Some(vec![OwnerReference {
                api_version: "apps/v1".into(),
                kind: "Deployment".into(),
                name: workload.key.name.clone(),
                uid: workload.uid.clone(),
                controller: Some(false),
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn common_spec(workload: &Workload, node: &str, settings: &PodSettings) -> PodSpec {
    let PodSettings {
        priority_class,
        deadline_seconds,
        noop_image: _,
        method: _,
    } = settings;
    let secrets = workload.image_pull_secrets.iter();
    PodSpec {
        node_name: Some(node.to_owned()),
        tolerations: Some(workload.placement.tolerations.clone()),
        image_pull_secrets: Some(
            secrets
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        service_account_name: workload.service_account.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        // No cluster DNS is needed, and so a broken one is no obstacle.
        dns_policy: Some("Default".into()),
        restart_policy: Some("Never".into()),
        termination_grace_period_seconds: Some(0),
        active_deadline_seconds: Some(*deadline_seconds),
        priority_class_name: priority_class.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NOBODY),
            run_as_group: Some(NOBODY),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// One container of our own per image, which mounts it: so the pod's status tells of each image.
fn with_image_volumes(images: &[Image], settings: &PodSettings) -> PodSpec {
    let volume = |(index, image): (usize, &Image)| Volume {
        name: container_name(index),
        image: Some(ImageVolumeSource {
            reference: Some(image.given.clone()),
            pull_policy: Some(pull_policy(image).into()),
        }),
        ..Volume::default()
    };
    let container = |(index, _): (usize, &Image)| Container {
        image: Some(settings.noop_image.clone()),
        command: Some(vec![OWN_BINARY.into(), NOOP_COMMAND.into()]),
        volume_mounts: Some(vec![VolumeMount {
            name: container_name(index),
            mount_path: "/image".into(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..bare_container(container_name(index))
    };
    PodSpec {
        containers: images.iter().enumerate().map(container).collect(),
        volumes: Some(images.iter().enumerate().map(volume).collect()),
        ..PodSpec::default()
    }
}

/// One container per image, from that image, running our no-op.
fn with_containers(images: &[Image], settings: &PodSettings) -> PodSpec {
    let noop = format!("{NOOP_DIRECTORY}/headstart");
    let mount = |read_only: bool| VolumeMount {
        name: NOOP_VOLUME.into(),
        mount_path: NOOP_DIRECTORY.into(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    };
    let container = |(index, image): (usize, &Image)| Container {
        image: Some(image.given.clone()),
        image_pull_policy: Some(pull_policy(image).into()),
        command: Some(vec![noop.clone(), NOOP_COMMAND.into()]),
        working_dir: Some(NOOP_DIRECTORY.into()),
        volume_mounts: Some(vec![mount(true)]),
        ..bare_container(container_name(index))
    };
    PodSpec {
        init_containers: Some(vec![Container {
            image: Some(settings.noop_image.clone()),
            command: Some(vec![
                OWN_BINARY.into(),
                COPY_SELF_COMMAND.into(),
                noop.clone(),
            ]),
            volume_mounts: Some(vec![mount(false)]),
            ..bare_container("noop".into())
        }]),
        containers: images.iter().enumerate().map(container).collect(),
        volumes: Some(vec![Volume {
            name: NOOP_VOLUME.into(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity("64Mi".into())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

fn pull_policy(image: &Image) -> &'static str {
    if image.always {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn bare_container(name: String) -> Container {
    let quantities = |cpu: &str, memory: &str| {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.into())),
            ("memory".to_owned(), Quantity(memory.into())),
        ])
    };
    Container {
        name,
        image_pull_policy: Some("IfNotPresent".into()),
        // Requests as small as they can be said: a prefetch takes no room from anyone. The memory limit is
        // what a runtime needs to start a process at all.
        resources: Some(ResourceRequirements {
            requests: Some(quantities("1m", "1Mi")),
            limits: Some(quantities("100m", "32Mi")),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workload::tests::workload;
    use serde_json::json;

    fn settings() -> PodSettings {
        PodSettings {
            noop_image: "headstart:v1".into(),
            method: None,
            priority_class: Some("headstart-prefetch".into()),
            deadline_seconds: 1800,
        }
    }

    #[test]
    fn the_name_is_the_same_for_the_same_deployment_node_and_images() {
        let v1 = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
        let v2 = workload(json!({"containers": [{"name": "a", "image": "app:2"}]}));
        assert_eq!(pod_name(&v1, "n1"), pod_name(&v1, "n1"));
        assert_ne!(pod_name(&v1, "n1"), pod_name(&v1, "n2"));
        assert_ne!(pod_name(&v1, "n1"), pod_name(&v2, "n1"));
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

    #[test]
    fn image_volumes_run_nothing_of_the_users_image() {
        let web = workload(
            json!({"containers": [{"name": "a", "image": "app:1"}, {"name": "b", "image": "b:1"}]}),
        );
        let spec = prefetch_pod(&web, "n1", PullMethod::ImageVolume, &settings())
            .spec
            .unwrap();
        assert!(
            spec.containers
                .iter()
                .all(|c| c.image.as_deref() == Some("headstart:v1"))
        );
        let references: Vec<_> = spec
            .volumes
            .iter()
            .flatten()
            .filter_map(|v| v.image.as_ref()?.reference.as_deref())
            .collect();
        assert_eq!(references, ["app:1", "b:1"]);
    }

    #[test]
    fn containers_run_only_the_no_op() {
        let web =
            workload(json!({"containers": [{"name": "a", "image": "app:1", "command": ["sh"]}]}));
        let spec = prefetch_pod(&web, "n1", PullMethod::Container, &settings())
            .spec
            .unwrap();
        let [container] = spec.containers.as_slice() else {
            panic!("one container per image")
        };
        assert_eq!(container.image.as_deref(), Some("app:1"));
        assert_eq!(
            container.command.as_deref().unwrap(),
            ["/.headstart/headstart", "noop"]
        );
    }

    #[test]
    fn the_pod_takes_the_credentials_and_leaves_the_token() {
        let web = workload(json!({
            "containers": [{"name": "a", "image": "app:1"}],
            "imagePullSecrets": [{"name": "registry"}],
            "serviceAccountName": "builder",
        }));
        let spec = prefetch_pod(&web, "n1", PullMethod::ImageVolume, &settings())
            .spec
            .unwrap();
        assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "registry");
        assert_eq!(spec.service_account_name.as_deref(), Some("builder"));
        assert_eq!(spec.automount_service_account_token, Some(false));
    }
}
