//! The settings that all prefetch pods share.

use std::borrow::Cow;

use super::metadata::{PodAnnotations, PodLabels};
use super::run_as_user::RunAsUser;
use crate::scheduling::filter_options::FilterOptions;
use crate::scheduling::image_sizes::MaxImageSize;
use crate::scheduling::node::PullMethod;

/// Hidden subcommands of the one binary that prefetch pods run.
pub const NOOP_COMMAND: &str = "noop";
/// The command that copies the binary to a volume, from which the user's images run it as a no-op.
pub const COPY_SELF_COMMAND: &str = "copy-self";
/// The path of the binary in headstart's own image.
pub(super) const OWN_BINARY: &str = "/headstart";
/// The path of the no-op in the containers of users' images.
pub(super) const NOOP_DIRECTORY: &str = "/.headstart";

/// The way in which a prefetch pod is bound to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeBinding {
    /// `spec.nodeName`: without the scheduler, and so at once.
    NodeName,
    /// Required node affinity to the node's name: through the scheduler, for clusters whose policy forbids
    /// `spec.nodeName`.
    Affinity,
}

/// The ServiceAccount of prefetch pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// The namespace's `default`. A node may ask for tokens of the ServiceAccount of any pod that is bound to it, and a
    /// prefetch puts a pod on every node.
    Default,
    /// The workload's own, for clusters where kubelets ask for registry credentials in its name.
    Workload,
}

/// The settings that all prefetch pods share.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSettings {
    /// headstart's own image, which holds the no-op.
    pub noop_image: String,
    /// Pull this way on every node, rather than in the best way that each can.
    pub method: Option<PullMethod>,
    /// The way in which a pod is bound to its node.
    pub binding: NodeBinding,
    /// The PriorityClass, none if absent.
    pub priority_class: Option<String>,
    /// The ServiceAccount of a pod.
    pub run_as: RunAs,
    /// The user of its containers.
    pub run_as_user: RunAsUser,
    /// Seconds after which the kubelet ends a pod that is still not done.
    pub deadline_seconds: i64,
    /// What plans look through; pods tolerate its taints.
    pub filter: FilterOptions,
    /// The size beyond which an image is not prefetched.
    pub max_image_size: MaxImageSize,
    /// Labels beside headstart's own.
    pub labels: PodLabels,
    /// Annotations beside headstart's own.
    pub annotations: PodAnnotations,
}

impl PodSettings {
    /// Returns these settings for a pod that is bound in this way.
    #[must_use]
    pub fn with_binding(&self, binding: NodeBinding) -> Cow<'_, Self> {
        if self.binding == binding {
            return Cow::Borrowed(self);
        }
        let mut settings = self.clone();
        settings.binding = binding;
        Cow::Owned(settings)
    }

    /// Returns the settings without any option.
    pub fn new(noop_image: &str) -> Self {
        Self {
            noop_image: noop_image.to_owned(),
            method: None,
            binding: NodeBinding::NodeName,
            priority_class: None,
            run_as: RunAs::Default,
            deadline_seconds: 1800,
            run_as_user: RunAsUser::default(),
            filter: FilterOptions::default(),
            max_image_size: MaxImageSize::default(),
            labels: PodLabels::default(),
            annotations: PodAnnotations::default(),
        }
    }
}

/// Returns the path of the binary in the containers of users' images.
pub(super) fn mounted_binary() -> String {
    format!("{NOOP_DIRECTORY}{OWN_BINARY}")
}
