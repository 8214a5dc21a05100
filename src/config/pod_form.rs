//! The form of prefetch pods, which `serve` makes and `plan` prints.

use std::time::Duration;

use clap::Args;
use headstart_core::pod::{PodAnnotations, PodLabels, PodSettings, RunAsUser};
use headstart_core::scheduling::filter_options::{FilterOptions, IgnoredResources};
use headstart_core::scheduling::image_sizes::MaxImageSize;
use headstart_core::scheduling::startup_taints::StartupTaints;

use super::defaults::{DEFAULT_POD_DEADLINE, DEFAULT_PRIORITY_CLASS};
use super::values::{PinFlag, PullMethodFlag, ServiceAccountFlag, pod_deadline};

/// The form of prefetch pods.
#[derive(Args, Clone, Debug)]
pub struct PodFormConfig {
    /// How images are pulled: `auto` takes image volumes on nodes that have them, else containers
    #[arg(
        long,
        env = "HEADSTART_PULL_METHOD",
        default_value = "auto",
        value_name = "METHOD"
    )]
    pub pull_method: PullMethodFlag,

    /// How prefetch pods get to their node: `affinity` goes through the scheduler, for clusters that forbid spec.nodeName
    #[arg(
        long,
        env = "HEADSTART_PIN",
        default_value = "node-name",
        value_name = "WAY"
    )]
    pub pin: PinFlag,

    /// Keys of taints that nodes have while they are set up, such as node.cilium.io/agent-not-ready (comma-separated): plans look
    /// through them, and prefetch pods tolerate them. A held rollout does not wait for such a node
    #[arg(
        long,
        env = "HEADSTART_STARTUP_TAINTS",
        default_value = "",
        value_name = "KEYS"
    )]
    pub startup_taints: StartupTaints,

    /// Extended resources that plans do not count, such as nvidia.com/gpu (comma-separated): those that a DeviceClass or an
    /// extender of the scheduler serves, which no node has in status.allocatable
    #[arg(
        long,
        env = "HEADSTART_IGNORED_RESOURCES",
        default_value = "",
        value_name = "NAMES"
    )]
    pub ignored_resources: IgnoredResources,

    /// Size beyond which an image is not prefetched, as far as nodes report it in status.images; a node is skipped too if its
    /// ephemeral storage cannot hold the images beside those that it reports. `none` where images have a filesystem of their own, or to
    /// look at no size
    #[arg(
        long,
        env = "HEADSTART_MAX_IMAGE_SIZE",
        default_value = "10Gi",
        value_name = "SIZE"
    )]
    pub max_image_size: MaxImageSize,

    /// ServiceAccount of prefetch pods: the namespace's `default` (with the pull secrets of the workload's), or the `workload`'s
    /// own, for kubelets that ask for registry credentials in its name. Any node may then ask for tokens of it: a prefetch puts a
    /// pod on every node
    #[arg(
        long,
        env = "HEADSTART_SERVICE_ACCOUNT",
        default_value = "default",
        value_name = "WHICH"
    )]
    pub service_account: ServiceAccountFlag,

    /// User and group of prefetch pods; `none` where the cluster chooses them, as OpenShift does
    #[arg(
        long,
        env = "HEADSTART_RUN_AS_USER",
        default_value_t = RunAsUser::default(),
        value_name = "NUMBER"
    )]
    pub run_as_user: RunAsUser,

    /// Labels that prefetch pods get, for policies that want some on every pod (KEY=VALUE, comma-separated). A Service must not
    /// select pods by them
    #[arg(
        long,
        env = "HEADSTART_POD_LABELS",
        default_value = "",
        value_name = "PAIRS"
    )]
    pub pod_labels: PodLabels,

    /// Annotations that prefetch pods get, for policies that want some on every pod (KEY=VALUE, comma-separated)
    #[arg(
        long,
        env = "HEADSTART_POD_ANNOTATIONS",
        default_value = "",
        value_name = "PAIRS"
    )]
    pub pod_annotations: PodAnnotations,

    /// PriorityClass of prefetch pods; empty for none
    #[arg(
        long,
        env = "HEADSTART_PRIORITY_CLASS",
        default_value = DEFAULT_PRIORITY_CLASS,
        value_name = "NAME"
    )]
    pub priority_class: String,

    /// When the kubelet ends a prefetch pod that is not done
    #[arg(long, env = "HEADSTART_POD_DEADLINE", default_value = DEFAULT_POD_DEADLINE, value_parser = pod_deadline, value_name = "DURATION")]
    pub pod_deadline: Duration,
}

impl PodFormConfig {
    /// Returns the settings of all prefetch pods, which run the no-op of this image.
    pub(crate) fn settings(&self, noop_image: &str) -> PodSettings {
        let Self {
            pull_method,
            pin,
            startup_taints,
            ignored_resources,
            max_image_size,
            service_account,
            run_as_user,
            pod_labels,
            pod_annotations,
            priority_class,
            pod_deadline,
        } = self;
        PodSettings {
            noop_image: noop_image.to_owned(),
            method: pull_method.forced(),
            binding: (*pin).into(),
            run_as: (*service_account).into(),
            priority_class: Some(priority_class.clone()).filter(|name| !name.is_empty()),
            deadline_seconds: i64::try_from(pod_deadline.as_secs()).unwrap_or(i64::MAX),
            run_as_user: *run_as_user,
            filter: FilterOptions {
                startup_taints: startup_taints.clone(),
                ignored_resources: ignored_resources.clone(),
            },
            max_image_size: *max_image_size,
            labels: pod_labels.clone(),
            annotations: pod_annotations.clone(),
        }
    }
}
