//! Decides whether a pod is one of headstart's prefetch pods.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::manifest::RESTART_POLICY;
use super::name::NAME_PREFIX;
use super::settings::{COPY_SELF_COMMAND, NOOP_COMMAND, OWN_BINARY, mounted_binary};

/// Returns whether a pod has the shape of a prefetch pod: its name, that it ends, and that it runs nothing but the no-op.
///
/// These fields of a stored pod cannot change. Labels, annotations and owners do not count. A user with the right to write one
/// of them could otherwise have headstart delete the pod. A pod with scheduling gates pulls nothing and headstart makes none,
/// so it is not one either.
pub fn is_prefetch_pod(pod: &Pod) -> bool {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    name.starts_with(NAME_PREFIX) && pod.spec.as_ref().is_some_and(only_prefetches)
}

fn only_prefetches(spec: &PodSpec) -> bool {
    let mounted = mounted_binary();
    let is_noop = |container: &Container| {
        runs(container, &[OWN_BINARY, NOOP_COMMAND]) || runs(container, &[&mounted, NOOP_COMMAND])
    };
    let copies_itself = |container: &Container| {
        container.restart_policy.is_none()
            && runs(container, &[OWN_BINARY, COPY_SELF_COMMAND, &mounted])
    };
    spec.restart_policy.as_deref() == Some(RESTART_POLICY)
        && spec.active_deadline_seconds.is_some()
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && !spec.containers.is_empty()
        && spec.containers.iter().all(is_noop)
        && spec.init_containers.iter().flatten().all(copies_itself)
}

fn runs(container: &Container, command: &[&str]) -> bool {
    container.args.as_ref().is_none_or(Vec::is_empty)
        && container
            .command
            .as_ref()
            .is_some_and(|own| own.iter().eq(command))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::prefetch_pod;
    use crate::scheduling::node::PullMethod;
    use crate::testing::{settings, workload};
    use serde_json::{Value, json};

    /// A prefetch pod for two images as the API server stores it, as JSON.
    fn made(method: PullMethod) -> Value {
        let web = workload(json!({
            "initContainers": [{"name": "i", "image": "init:1"}],
            "containers": [{"name": "a", "image": "app:1"}],
        }));
        serde_json::to_value(prefetch_pod(&web, "n1", method, &settings())).unwrap()
    }

    fn is_ours(pod: Value) -> bool {
        is_prefetch_pod(&serde_json::from_value(pod).unwrap())
    }

    fn changed(method: PullMethod, change: &Value) -> bool {
        let mut pod = made(method);
        json_patch::merge(&mut pod, change);
        is_ours(pod)
    }

    #[test]
    fn a_prefetch_pod_is_ours_whatever_its_labels_annotations_and_owners() {
        for method in [PullMethod::ImageVolume, PullMethod::Container] {
            assert!(is_ours(made(method)));
            let bare =
                json!({"metadata": {"labels": null, "annotations": null, "ownerReferences": null}});
            assert!(changed(method, &bare));
            let added = json!({
                "metadata": {"labels": {"team": "a"}},
                "spec": {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"a": "b"}},
            });
            assert!(changed(method, &added), "added by others");
        }
    }

    #[test]
    fn a_pod_of_another_shape_is_not_ours_whatever_its_labels() {
        let container = |command: Value| json!([{"name": "a", "image": "a:1", "command": command}]);
        let noop = json!(["/headstart", "noop"]);
        let gate = json!([{"name": "example.com/never"}]);
        for (what, change) in [
            ("name", json!({"metadata": {"name": "web-1"}})),
            ("no name", json!({"metadata": {"name": null}})),
            ("restarts", json!({"spec": {"restartPolicy": "Always"}})),
            (
                "no deadline",
                json!({"spec": {"activeDeadlineSeconds": null}}),
            ),
            ("gated", json!({"spec": {"schedulingGates": gate}})),
            ("no containers", json!({"spec": {"containers": []}})),
            (
                "a command",
                json!({"spec": {"containers": container(json!(["sh"]))}}),
            ),
            (
                "the image's command",
                json!({"spec": {"containers": container(Value::Null)}}),
            ),
            (
                "more than the no-op",
                json!({"spec": {"containers": container(json!(["/headstart", "noop", "x"]))}}),
            ),
            (
                "arguments",
                json!({"spec": {"containers": [{"name": "a", "command": noop, "args": ["x"]}]}}),
            ),
            (
                "a sidecar",
                json!({"spec": {"containers": [{"name": "a", "command": noop}, {"name": "b", "image": "mesh:1"}]}}),
            ),
            (
                "an init container",
                json!({"spec": {"initContainers": container(json!(["sh"]))}}),
            ),
            (
                "an init container that stays",
                json!({"spec": {"initContainers": [
                    {"name": "a", "command": ["/headstart", "copy-self", "/.headstart/headstart"], "restartPolicy": "Always"},
                ]}}),
            ),
            ("no spec", json!({"spec": null})),
        ] {
            for method in [PullMethod::ImageVolume, PullMethod::Container] {
                assert!(!changed(method, &change), "{what}, {method:?}");
            }
        }
    }
}
