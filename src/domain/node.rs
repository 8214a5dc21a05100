//! Which nodes the pods of a template could be scheduled on now, and what each can do.
//!
//! Filters as the scheduler would (`nodeName`, `nodeSelector`, taints, cordon), and asks for Ready on top:
//! a prefetch pod that is bound to a node that is down would wait there for nothing.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

use super::workload::Placement;

/// The taint that a cordon stands for, in the scheduler's eyes.
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";
const OS_LABEL: &str = "kubernetes.io/os";

/// How an image is pulled on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PullMethod {
    /// As a volume: nothing of the image runs.
    ImageVolume,
    /// As a container's root, running a static no-op that an init container copies in.
    Container,
}

/// A node, reduced to what placement reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    cordoned: bool,
    ready: bool,
    deleting: bool,
    image_volumes: bool,
}

/// Why a node is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// The template names another node.
    OtherNode(String),
    /// A label of `nodeSelector` is missing or has another value.
    Label {
        /// The label's key.
        key: String,
        /// The value the template wants.
        wanted: String,
        /// The value the node has.
        found: Option<String>,
    },
    /// Cordoned, and the template does not tolerate it.
    Cordoned,
    /// A taint that the template does not tolerate: `key=value:effect`.
    UntoleratedTaint(String),
    /// Not reporting Ready.
    NotReady,
    /// About to be gone.
    Deleting,
    /// Runs another operating system than Linux.
    OperatingSystem(String),
}

impl Ineligible {
    /// For machines: stable, in the style of condition reasons.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OtherNode(_) => "OtherNode",
            Self::Label { .. } => "NodeSelectorMismatch",
            Self::Cordoned => "Cordoned",
            Self::UntoleratedTaint(_) => "UntoleratedTaint",
            Self::NotReady => "NotReady",
            Self::Deleting => "Deleting",
            Self::OperatingSystem(_) => "OperatingSystem",
        }
    }
}

/// For people: one sentence.
impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNode(wanted) => {
                write!(f, "the pod template asks for the node {wanted} by name")
            }
            Self::Label {
                key,
                wanted,
                found: None,
            } => {
                write!(
                    f,
                    "nodeSelector wants {key}={wanted}, the node has no such label"
                )
            }
            Self::Label {
                key,
                wanted,
                found: Some(found),
            } => {
                write!(
                    f,
                    "nodeSelector wants {key}={wanted}, the node has {key}={found}"
                )
            }
            Self::Cordoned => f.write_str("the node is cordoned"),
            Self::UntoleratedTaint(taint) => {
                write!(f, "the pod template does not tolerate the taint {taint}")
            }
            Self::NotReady => f.write_str("the node is not Ready"),
            Self::Deleting => f.write_str("the node is being deleted"),
            Self::OperatingSystem(os) => {
                write!(f, "the node runs {os}; headstart prefetches on linux")
            }
        }
    }
}

impl Candidate {
    /// Reads a node; `None` if it has no name.
    pub fn from_node(node: &Node) -> Option<Self> {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let info = status.and_then(|status| status.node_info.as_ref());
        Some(Self {
            name: node.metadata.name.clone()?,
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec
                .and_then(|spec| spec.taints.clone())
                .unwrap_or_default(),
            cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            ready: status
                .and_then(|status| status.conditions.as_ref())
                .is_some_and(|conditions| {
                    conditions
                        .iter()
                        .any(|c| c.type_ == "Ready" && c.status == "True")
                }),
            deleting: node.metadata.deletion_timestamp.is_some(),
            image_volumes: info.is_some_and(|info| {
                can_mount_images(&info.kubelet_version, &info.container_runtime_version)
            }),
        })
    }

    /// The least intrusive way to pull on this node.
    pub fn best_method(&self) -> PullMethod {
        if self.image_volumes {
            PullMethod::ImageVolume
        } else {
            PullMethod::Container
        }
    }

    /// Why pods of the template would not be scheduled here now; `None` if they would.
    pub fn refuses(&self, placement: &Placement) -> Option<Ineligible> {
        let Placement {
            node_name,
            node_selector,
            tolerations,
        } = placement;
        if let Some(wanted) = node_name.as_ref().filter(|wanted| **wanted != self.name) {
            return Some(Ineligible::OtherNode(wanted.clone()));
        }
        if let Some(os) = self.labels.get(OS_LABEL).filter(|os| *os != "linux") {
            return Some(Ineligible::OperatingSystem(os.clone()));
        }
        for (key, wanted) in node_selector {
            let found = self.labels.get(key);
            if found != Some(wanted) {
                return Some(Ineligible::Label {
                    key: key.clone(),
                    wanted: wanted.clone(),
                    found: found.cloned(),
                });
            }
        }
        if self.deleting {
            return Some(Ineligible::Deleting);
        }
        if !self.ready {
            return Some(Ineligible::NotReady);
        }
        let cordon = Taint {
            key: UNSCHEDULABLE_TAINT.into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        if self.cordoned && !tolerates(tolerations, &cordon) {
            return Some(Ineligible::Cordoned);
        }
        // A cordoned node carries the taint as well; the sentence above says it better.
        self.taints
            .iter()
            .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
            .find(|taint| !tolerates(tolerations, taint))
            .map(|taint| Ineligible::UntoleratedTaint(describe(taint)))
    }
}

/// `Toleration.ToleratesTaint` of `k8s.io/api/core/v1`: an empty key with `Exists` tolerates every taint, an
/// empty effect every effect, and no operator means `Equal`.
fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && (key.is_empty() || key == taint.key)
            && match toleration.operator.as_deref().unwrap_or_default() {
                "" | "Equal" => {
                    toleration.value.as_deref().unwrap_or_default()
                        == taint.value.as_deref().unwrap_or_default()
                }
                "Exists" => true,
                _ => false,
            }
    })
}

/// As `kubectl describe node` prints it.
fn describe(taint: &Taint) -> String {
    match taint.value.as_deref() {
        None | Some("") => format!("{}:{}", taint.key, taint.effect),
        Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
    }
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

/// The first two numbers of a version, whatever a vendor appended (`1.35.1-eks-5d5f`, `1.35.0+k3s1`).
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(major), Ok(minor)) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn candidate(change: Value) -> Candidate {
        let mut node = json!({
            "metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux", "pool": "web"}},
            "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "nodeInfo": node_info("v1.37.2", "containerd://2.4.2"),
            },
        });
        json_patch::merge(&mut node, &change);
        Candidate::from_node(&serde_json::from_value(node).unwrap()).unwrap()
    }

    fn node_info(kubelet: &str, runtime: &str) -> Value {
        json!({
            "architecture": "", "bootID": "", "containerRuntimeVersion": runtime, "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": kubelet, "machineID": "", "operatingSystem": "",
            "osImage": "", "systemUUID": "",
        })
    }

    fn placement(spec: Value) -> Placement {
        Placement {
            node_name: spec["nodeName"].as_str().map(str::to_owned),
            node_selector: serde_json::from_value(spec["nodeSelector"].clone()).unwrap_or_default(),
            tolerations: serde_json::from_value(spec["tolerations"].clone()).unwrap_or_default(),
        }
    }

    fn reason(node: Value, spec: Value) -> Option<&'static str> {
        candidate(node)
            .refuses(&placement(spec))
            .map(|ineligible| ineligible.reason())
    }

    #[test]
    fn an_ordinary_node_takes_an_ordinary_pod() {
        assert_eq!(reason(json!({}), json!({})), None);
        assert_eq!(
            reason(
                json!({}),
                json!({"nodeSelector": {"pool": "web"}, "nodeName": "n1"})
            ),
            None
        );
    }

    #[test]
    fn each_filter_has_its_reason() {
        let taint = |effect: &str| json!({"spec": {"taints": [{"key": "gpu", "value": "a", "effect": effect}]}});
        let table = [
            (json!({}), json!({"nodeName": "n2"}), Some("OtherNode")),
            (
                json!({}),
                json!({"nodeSelector": {"pool": "db"}}),
                Some("NodeSelectorMismatch"),
            ),
            (
                json!({}),
                json!({"nodeSelector": {"zone": "a"}}),
                Some("NodeSelectorMismatch"),
            ),
            (
                json!({"spec": {"unschedulable": true}}),
                json!({}),
                Some("Cordoned"),
            ),
            (
                json!({"spec": {"unschedulable": true}}),
                json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}),
                None,
            ),
            (
                json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
                json!({}),
                Some("NotReady"),
            ),
            (
                json!({"status": {"conditions": null}}),
                json!({}),
                Some("NotReady"),
            ),
            (
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                json!({}),
                Some("Deleting"),
            ),
            (
                json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}}),
                json!({}),
                Some("OperatingSystem"),
            ),
            (taint("NoSchedule"), json!({}), Some("UntoleratedTaint")),
            (taint("NoExecute"), json!({}), Some("UntoleratedTaint")),
            (taint("PreferNoSchedule"), json!({}), None),
            (
                taint("NoSchedule"),
                json!({"tolerations": [{"key": "gpu", "value": "a"}]}),
                None,
            ),
            (
                taint("NoSchedule"),
                json!({"tolerations": [{"key": "gpu", "value": "b"}]}),
                Some("UntoleratedTaint"),
            ),
            (
                taint("NoSchedule"),
                json!({"tolerations": [{"operator": "Exists"}]}),
                None,
            ),
            (
                taint("NoSchedule"),
                json!({"tolerations": [{"operator": "Exists", "effect": "NoExecute"}]}),
                Some("UntoleratedTaint"),
            ),
        ];
        for (node, spec, expected) in table {
            assert_eq!(
                reason(node.clone(), spec.clone()),
                expected,
                "node {node}, spec {spec}"
            );
        }
    }

    #[test]
    fn sentences_name_the_label_and_the_taint() {
        let refused = candidate(
            json!({"spec": {"taints": [{"key": "gpu", "value": "a", "effect": "NoSchedule"}]}}),
        )
        .refuses(&Placement::default())
        .unwrap();
        assert_eq!(
            refused.to_string(),
            "the pod template does not tolerate the taint gpu=a:NoSchedule"
        );
    }

    #[test]
    fn image_volumes_need_a_kubelet_and_a_runtime_that_have_them() {
        let table = [
            ("v1.37.2", "containerd://2.4.2", true),
            ("v1.35.1-eks-5d5f", "containerd://2.1.0-rc.1", true),
            ("v1.35.0+k3s1", "containerd://v2.1.4-k3s1", true),
            ("v1.35.0", "cri-o://1.33.0", true),
            ("v1.34.9", "containerd://2.4.2", false),
            ("v1.35.0", "containerd://2.0.9", false),
            ("v1.35.0", "cri-o://1.32.7", false),
            ("v1.35.0", "docker://27.0", false),
            ("", "", false),
        ];
        for (kubelet, runtime, expected) in table {
            assert_eq!(
                can_mount_images(kubelet, runtime),
                expected,
                "{kubelet} {runtime}"
            );
        }
    }
}
