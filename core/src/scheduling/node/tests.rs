use super::*;
use crate::testing::node_info;
use serde_json::{Value, json};

#[test]
fn what_is_wrong_with_a_node_is_read_from_its_conditions() {
    let conditions = |ready: &str, other: &str, status: &str| {
        json!({"status": {"conditions": [
            {"type": other, "status": status}, {"type": "Ready", "status": ready},
        ]}})
    };
    let table = [
        (conditions("True", "DiskPressure", "False"), None),
        (conditions("True", "DiskPressure", "Unknown"), None),
        (
            conditions("False", "DiskPressure", "True"),
            Some(UnusableReason::DiskPressure),
        ),
        (
            conditions("Unknown", "Other", "True"),
            Some(UnusableReason::NotReady),
        ),
        (
            json!({"status": {"conditions": null}}),
            Some(UnusableReason::NotReady),
        ),
        (
            conditions("True", "MemoryPressure", "True"),
            Some(UnusableReason::MemoryPressure),
        ),
        (
            conditions("True", "DiskPressure", "True"),
            Some(UnusableReason::DiskPressure),
        ),
        (
            conditions("True", "PIDPressure", "True"),
            Some(UnusableReason::PidPressure),
        ),
        (
            conditions("True", "NetworkUnavailable", "True"),
            Some(UnusableReason::NetworkUnavailable),
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            Some(UnusableReason::Deleting),
        ),
    ];
    for (change, expected) in table {
        assert_eq!(node_info(&change).unusable, expected, "{change}");
    }
}

#[test]
fn nodes_that_are_about_to_go_are_known_by_cordon_taint_or_deletion() {
    let taint =
        |key: &str, effect: &str| json!({"spec": {"taints": [{"key": key, "effect": effect}]}});
    for change in [
        json!({"spec": {"unschedulable": true}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        taint("karpenter.sh/disrupted", "NoSchedule"),
        taint("ToBeDeletedByClusterAutoscaler", "NoSchedule"),
        taint("aws-node-termination-handler/spot-itn", "NoExecute"),
    ] {
        assert!(node_info(&change).is_leaving(), "{change}");
    }
    for change in [
        json!({}),
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        // The autoscaler may still change its mind.
        taint("DeletionCandidateOfClusterAutoscaler", "PreferNoSchedule"),
        taint("karpenter.sh/unregistered", "NoExecute"),
    ] {
        assert!(!node_info(&change).is_leaving(), "{change}");
    }
}

#[test]
fn virtual_kubelets_are_known_by_label_taint_or_version() {
    for change in [
        json!({"metadata": {"labels": {"type": "virtual-kubelet"}}}),
        json!({"metadata": {"labels": {"eks.amazonaws.com/compute-type": "fargate"}}}),
        json!({"spec": {"taints": [{"key": "virtual-kubelet.io/provider", "effect": "PreferNoSchedule"}]}}),
        json!({"status": {"nodeInfo": {"kubeletVersion": "v1.25.0-vk-azure-aci-1.6.2"}}}),
    ] {
        assert_eq!(
            node_info(&change).unusable,
            Some(UnusableReason::Virtual),
            "{change}"
        );
    }
    assert_eq!(
        node_info(&json!({"metadata": {"labels": {"type": "kwok"}}})).unusable,
        None
    );
}

#[test]
fn the_marks_of_autoscalers_are_read() {
    let marked = |key: &str, effect: &str| {
        let node = node_info(&json!({"spec": {"taints": [{"key": key, "effect": effect}]}}));
        (node.unusable, node.is_scale_down_candidate)
    };
    let going = (Some(UnusableReason::ScaleDown), false);
    for key in [
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
    ] {
        assert_eq!(marked(key, "NoSchedule"), going, "{key}");
    }
    let soft = marked("DeletionCandidateOfClusterAutoscaler", "PreferNoSchedule");
    assert_eq!(soft, (None, true));
    assert_eq!(marked("dedicated", "NoSchedule"), (None, false));
}

#[test]
fn the_operating_system_is_read_from_the_label_or_else_from_what_the_kubelet_says() {
    let os = |change| node_info(&change).non_linux_os;
    assert_eq!(os(json!({})), None);
    assert_eq!(
        os(json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}})).as_deref(),
        Some("windows")
    );
    assert_eq!(
        os(json!({
            "metadata": {"labels": {"kubernetes.io/os": null}},
            "status": {"nodeInfo": {"operatingSystem": "windows"}},
        }))
        .as_deref(),
        Some("windows")
    );
}

#[test]
fn pod_slots_are_a_quantity_that_may_be_missing() {
    let slots =
        |pods: Value| node_info(&json!({"status": {"allocatable": {"pods": pods}}})).pod_slots;
    assert_eq!(slots(json!("110")), Some(110));
    assert_eq!(slots(json!("1k")), Some(1000));
    assert_eq!(slots(json!("100E")), Some(u32::MAX));
    assert_eq!(slots(json!("lots")), None);
    assert_eq!(slots(json!(null)), None);
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
