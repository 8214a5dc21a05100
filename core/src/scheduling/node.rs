//! A node, reduced to the fields that a plan reads.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{self, Node, NodeStatus};

use super::labels::Labels;
use super::node_images::ReportedImages;
use super::quantity;
use super::resources::Resources;
use super::startup_taints::StartupTaints;
use super::tolerations::Taint;

/// The label for the operating system of a node.
const OS_LABEL: &str = "kubernetes.io/os";
/// The operating system that headstart's no-op runs on.
pub(super) const OWN_OS: &str = "linux";
/// The label for the processor architecture of a node. An image has a variant for an architecture, or lacks it.
const ARCH_LABEL: &str = "kubernetes.io/arch";
/// The labels for the failure zone of a node; the second is the name before 1.17.
const ZONE_LABELS: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/zone",
];
/// By these labels a node is known to stand for a service that has no disk to prefetch to: the Virtual Kubelet
/// project's own and its forks', Liqo, EKS Fargate, Tencent's super nodes.
const VIRTUAL_LABELS: [(&str, &str); 4] = [
    ("type", "virtual-kubelet"),
    ("liqo.io/type", "virtual-node"),
    ("eks.amazonaws.com/compute-type", "fargate"),
    ("node.kubernetes.io/instance-type", "eklet"),
];
/// The taint that virtual kubelets carry by default; tolerating it makes no real node of one.
const VIRTUAL_TAINT: &str = "virtual-kubelet.io/provider";
/// A part of the kubelet versions of the Virtual Kubelet project: `v1.25.0-vk-azure-aci-1.6.2`.
const VIRTUAL_VERSION: &str = "-vk-";

/// The taints by which an autoscaler marks a node that it is removing: the cluster-autoscaler, and Karpenter since 1.0 and
/// before.
const SCALE_DOWN_TAINTS: [&str; 3] = [
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
];
/// The taints of nodes that are about to be removed for another reason: the AWS Node Termination Handler's (a prefix), GKE's, the
/// cloud controller manager's, and the one for nodes that are out of service.
const REMOVAL_TAINTS: [&str; 4] = [
    "aws-node-termination-handler/",
    "cloud.google.com/impending-node-termination",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.kubernetes.io/out-of-service",
];
/// The taint by which the cluster-autoscaler marks a node that it will remove unless pods need it. It only discourages.
const CANDIDATE_TAINT: &str = "DeletionCandidateOfClusterAutoscaler";
/// The label that Karpenter sets on its nodes.
const KARPENTER_LABEL: &str = "karpenter.sh/nodepool";

/// The prefixes of taints that say the state of a node. Other taints reserve a node for some pods.
const SYSTEM_TAINTS: [&str; 2] = ["node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"];

/// The way in which an image is pulled on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PullMethod {
    /// As a volume: nothing of the image runs.
    ImageVolume,
    /// As a container's root, running a static no-op that an init container copies in.
    Container,
}

/// The reason why a node is no target for images now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusableReason {
    /// No machine: a service that runs pods elsewhere.
    Virtual,
    /// Being deleted, or tainted for it.
    Deleting,
    /// About to be removed by an autoscaler.
    ScaleDown,
    /// Not reporting Ready.
    NotReady,
    /// Out of memory.
    MemoryPressure,
    /// Out of disk: it evicts images, it does not want more.
    DiskPressure,
    /// Out of process IDs.
    PidPressure,
    /// Without a network to pull over.
    NetworkUnavailable,
}

/// A node, reduced to the fields that scheduling constraints read.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    pub(crate) labels: Labels,
    pub(crate) taints: Box<[Taint]>,
    pub(crate) cordoned: bool,
    pub(crate) unusable: Option<UnusableReason>,
    /// An autoscaler will remove it unless pods need it.
    pub(crate) is_scale_down_candidate: bool,
    /// The operating system, if it is not linux.
    pub(crate) non_linux_os: Option<Box<str>>,
    /// The number of pods that it takes; `None` if it does not say.
    pub(crate) pod_slots: Option<u32>,
    /// The resources that it has for pods; `None` if it does not say.
    pub(crate) allocatable: Option<Resources>,
    /// The images that it reports. They may have changed where nothing else has.
    pub(crate) images: ReportedImages,
    image_volumes: bool,
}

impl NodeInfo {
    /// Reads a node; `None` if it has no name. A field that the node does not report counts in its favour, except
    /// Ready.
    pub fn from_node(node: &Node) -> Option<Self> {
        let none = BTreeMap::new();
        let labels = node.metadata.labels.as_ref().unwrap_or(&none);
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let info = status.and_then(|status| status.node_info.as_ref());
        let taints = spec
            .and_then(|spec| spec.taints.as_deref())
            .unwrap_or_default();
        let has_taint = |keys: &[&str]| {
            let mut taints = taints.iter();
            taints.any(|taint| keys.contains(&taint.key.as_str()))
        };
        let virtual_kubelet = VIRTUAL_LABELS
            .iter()
            .any(|(key, value)| labels.get(*key).is_some_and(|found| found == value))
            || has_taint(&[VIRTUAL_TAINT])
            || info.is_some_and(|info| info.kubelet_version.contains(VIRTUAL_VERSION));
        let unusable = if virtual_kubelet {
            Some(UnusableReason::Virtual)
        } else if node.metadata.deletion_timestamp.is_some() || taints.iter().any(is_of_removal) {
            Some(UnusableReason::Deleting)
        } else if has_taint(&SCALE_DOWN_TAINTS) {
            Some(UnusableReason::ScaleDown)
        } else {
            unusable_by_condition(status)
        };
        let os = labels
            .get(OS_LABEL)
            .or(info.map(|info| &info.operating_system))
            .filter(|os| !os.is_empty() && *os != "linux");
        let allocatable = status
            .and_then(|status| status.allocatable.as_ref())
            .filter(|allocatable| !allocatable.is_empty());
        let pod_slots = allocatable
            .and_then(|allocatable| allocatable.get("pods"))
            .and_then(|slots| quantity::parse_integer(&slots.0))
            .map(|slots| u32::try_from(slots).unwrap_or(u32::MAX));
        Some(Self {
            name: node.metadata.name.clone()?,
            labels: labels.into(),
            taints: taints.iter().filter_map(Taint::read).collect(),
            cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            unusable,
            is_scale_down_candidate: has_taint(&[CANDIDATE_TAINT]),
            non_linux_os: os.map(|os| os.as_str().into()),
            pod_slots,
            allocatable: allocatable.map(Resources::allocatable),
            images: ReportedImages::read(status),
            image_volumes: info.is_some_and(|info| {
                can_mount_images(&info.kubelet_version, &info.container_runtime_version)
            }),
        })
    }

    /// Returns whether another state of the node differs in nothing but the images that it reports.
    pub(crate) fn differs_in_images(&self, other: &Self) -> bool {
        let with_own_images = Self {
            images: self.images.clone(),
            ..other.clone()
        };
        *self == with_own_images
    }

    /// The least intrusive way to pull on this node.
    pub fn preferred_method(&self) -> PullMethod {
        if self.image_volumes {
            PullMethod::ImageVolume
        } else {
            PullMethod::Container
        }
    }

    /// Returns whether the node can pull now: it is Ready, and no taint but a startup taint says that it is still being
    /// initialised.
    pub fn is_usable(&self, startup_taints: &StartupTaints) -> bool {
        let of_kubernetes = |taint: &Taint| {
            let mut domains = SYSTEM_TAINTS.iter();
            domains.any(|domain| taint.key().starts_with(domain)) && !startup_taints.contains(taint)
        };
        self.unusable.is_none() && !self.taints.iter().any(of_kubernetes)
    }

    /// Returns whether the node is about to go: it is cordoned, tainted for its removal, or being deleted. A pod that is not
    /// finished would stand in the way of its drain.
    pub fn is_leaving(&self) -> bool {
        let going = [UnusableReason::Deleting, UnusableReason::ScaleDown].map(Some);
        self.cordoned || going.contains(&self.unusable)
    }

    /// Returns whether the kubelet reports that the node is not Ready, or does not report any more.
    pub fn is_not_ready(&self) -> bool {
        self.unusable == Some(UnusableReason::NotReady)
    }

    /// Returns whether the kubelet reports that the node is short of disk: it deletes images and evicts pods.
    pub fn has_disk_pressure(&self) -> bool {
        self.unusable == Some(UnusableReason::DiskPressure)
    }

    /// Returns whether Karpenter manages the node. It removes no node on which pods have come or gone a short time ago.
    pub fn is_karpenter(&self) -> bool {
        self.labels.get(KARPENTER_LABEL).is_some()
    }

    /// Returns the number of its extended resources and the like. It grows when a device plugin has started.
    pub(crate) fn scalar_count(&self) -> usize {
        self.allocatable.as_ref().map_or(0, Resources::scalar_count)
    }

    /// Its processor architecture; empty if it does not say.
    pub fn architecture(&self) -> &str {
        self.labels.get(ARCH_LABEL).unwrap_or_default()
    }

    /// Its zone; nodes that name none are together in one without a name.
    pub fn zone(&self) -> &str {
        ZONE_LABELS
            .iter()
            .find_map(|label| self.labels.get(label))
            .unwrap_or_default()
    }
}

fn is_of_removal(taint: &v1::Taint) -> bool {
    REMOVAL_TAINTS.iter().any(|removal| {
        if removal.ends_with('/') {
            taint.key.starts_with(removal)
        } else {
            taint.key == *removal
        }
    })
}

fn unusable_by_condition(status: Option<&NodeStatus>) -> Option<UnusableReason> {
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let is_true = |type_: &str| {
        let mut conditions = conditions.unwrap_or_default().iter();
        conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
    };
    // The kubelet reports it, Ready or not. Where the kubelet is silent, the condition is Unknown.
    if is_true("DiskPressure") {
        return Some(UnusableReason::DiskPressure);
    }
    if !is_true("Ready") {
        return Some(UnusableReason::NotReady);
    }
    [
        ("MemoryPressure", UnusableReason::MemoryPressure),
        ("PIDPressure", UnusableReason::PidPressure),
        ("NetworkUnavailable", UnusableReason::NetworkUnavailable),
    ]
    .into_iter()
    .find_map(|(type_, reason)| is_true(type_).then_some(reason))
}

/// Image volumes are on by default since Kubernetes 1.35; containerd has them since 2.1, CRI-O since 1.33.
fn can_mount_images(kubelet: &str, runtime: &str) -> bool {
    let kubelet = kubelet
        .strip_prefix('v')
        .and_then(major_minor)
        .is_some_and(|version| version >= (1, 35));
    let runtime = match runtime.split_once("://") {
        Some(("containerd", version)) => {
            major_minor(version.trim_start_matches('v')) >= Some((2, 1))
        }
        Some(("cri-o", version)) => major_minor(version.trim_start_matches('v')) >= Some((1, 33)),
        _ => false,
    };
    kubelet && runtime
}

/// Returns the first two numbers of a version. A vendor may have appended something (`1.35.1-eks-5d5f`, `1.35.0+k3s1`).
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(major), Ok(minor)) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
