//! The containers of a prefetch pod: one for each image.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, ImageVolumeSource, PodSpec,
    ResourceRequirements, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::name::container_name;
use super::settings::{
    COPY_SELF_COMMAND, NOOP_COMMAND, NOOP_DIRECTORY, OWN_BINARY, PodSettings, mounted_binary,
};
use crate::image::Image;

const NOOP_VOLUME: &str = "noop";

/// One container of our own per image, which mounts it: so the pod's status tells of each image.
pub(super) fn with_image_volumes(images: &[Image], settings: &PodSettings) -> PodSpec {
    let volume = |(index, image): (usize, &Image)| Volume {
        name: container_name(index),
        image: Some(ImageVolumeSource {
            reference: Some(image.as_written.to_string()),
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
pub(super) fn with_containers(images: &[Image], settings: &PodSettings) -> PodSpec {
    let noop = mounted_binary();
    let mount = |read_only: bool| VolumeMount {
        name: NOOP_VOLUME.into(),
        mount_path: NOOP_DIRECTORY.into(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    };
    let container = |(index, image): (usize, &Image)| Container {
        image: Some(image.as_written.to_string()),
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
        // Requests as small as they can be said: a prefetch takes no room from other pods. The memory limit is as much
        // as a runtime needs to start a process at all.
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
