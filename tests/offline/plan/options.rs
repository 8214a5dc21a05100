//! Tests of the options that change a plan and its pods, and of nodes that can never fit a pod.

use serde_json::{Value, json};

use super::{headstart, json_lines, text};

/// A Deployment that wants a GPU, with this annotation's value if it is not empty.
fn deployment(after_ready: &str) -> String {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "shop", "labels": {"headstart.dev/prefetch": "enabled"}},
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{
                "name": "c", "image": "registry.example/model-server:1", "resources": {"limits": {"nvidia.com/gpu": 1}},
            }]}},
        },
    });
    if !after_ready.is_empty() {
        object["metadata"]["annotations"] = json!({"headstart.dev/after-ready": after_ready});
    }
    object.to_string()
}

/// Nodes with and without a GPU, one of which is being set up. Returns the path of the file.
fn nodes(file: &str) -> String {
    let node = |name: &str, gpus: &str, taints: Value| {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
            "spec": {"taints": taints},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110", "nvidia.com/gpu": gpus},
            },
        })
    };
    let starts = json!([{"key": "node.cilium.io/agent-not-ready", "effect": "NoExecute"}]);
    let all = [
        node("cpu", "0", json!([])),
        node("gpu", "1", json!([])),
        node("starts", "1", starts),
    ];
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all});
    std::fs::write(&path, list.to_string()).expect("a file that can be written");
    path.display().to_string()
}

#[test]
fn a_node_that_can_never_fit_a_pod_is_skipped_for_its_resource() {
    let nodes = nodes("gpu.json");
    let output = headstart(&["-f", "-", "--nodes", &nodes], &deployment(""));
    let table = text(&output.stdout);
    for line in [
        "shop/a: 1 image to 1 of 3 nodes",
        "InsufficientResources: a pod wants nvidia.com/gpu: 1, the node has none",
        "UntoleratedTaint: the pod template does not tolerate the taint node.cilium.io/agent-not-ready:NoExecute",
    ] {
        assert!(table.contains(line), "{line}: {table}");
    }
}

#[test]
fn options_change_the_plan_and_its_pods() {
    let nodes = nodes("options.json");
    let options = [
        "--startup-taints=node.cilium.io/agent-not-ready",
        "--ignored-resources=nvidia.com/gpu",
        "--pod-labels=team=shop",
        "--pod-annotations=example.com/owner=shop",
        "--run-as-user=none",
    ];
    let arguments = [&["-f", "-", "-o", "json", "--nodes", &nodes], &options[..]].concat();
    let output = headstart(&arguments, &deployment(""));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let plan = json_lines(text(&output.stdout)).remove(0);
    let pods = plan["pods"].as_array().expect("pods");
    assert_eq!(pods.len(), 3);
    for pod in pods {
        assert_eq!(pod["metadata"]["labels"]["team"], "shop");
        assert_eq!(pod["metadata"]["annotations"]["example.com/owner"], "shop");
        assert_eq!(
            pod["spec"]["tolerations"][0]["key"],
            "node.cilium.io/agent-not-ready"
        );
        let context = &pod["spec"]["securityContext"];
        assert_eq!(
            (&context["runAsUser"], &context["runAsNonRoot"]),
            (&Value::Null, &json!(true))
        );
    }
}

#[test]
fn a_wrong_option_is_named_with_what_is_wanted() {
    for (option, phrase) in [
        (
            "--pod-labels=headstart.dev/deployment=a",
            "headstart sets headstart.dev/deployment itself",
        ),
        ("--pod-labels=team", "\"team\" is not of the form KEY=VALUE"),
        (
            "--run-as-user=root",
            "want a number from 1 to 2147483647, or none",
        ),
        (
            "--startup-taints=a=b:NoSchedule",
            "want keys without value and effect",
        ),
        ("--ignored-resources=cpu", "\"cpu\" is no extended resource"),
        ("--max-image-size=big", "\"big\" is no size"),
    ] {
        let output = headstart(&["-f", "-", option], "");
        assert_eq!(output.status.code(), Some(2), "{option}");
        let said = text(&output.stderr);
        assert!(said.contains(phrase), "{option}: {said}");
    }
}

#[test]
fn images_that_wait_for_ready_pods_are_told() {
    let nodes = nodes("after-ready.json");
    let plan = |after_ready: &str, mode: &str| {
        let object = deployment(after_ready).replace("\"enabled\"", &format!("{mode:?}"));
        let output = headstart(&["-f", "-", "--nodes", &nodes], &object);
        text(&output.stdout).to_owned()
    };
    let said = plan("25%", "enabled");
    let waits = "prefetched when 25% of the new pods are ready (headstart.dev/after-ready)\n";
    assert!(said.contains(waits), "{said}");
    let said = plan("1", "hold");
    assert!(
        said.contains("headstart.dev/after-ready has no effect with hold\n"),
        "{said}"
    );
}

#[test]
fn a_node_without_room_for_an_image_is_skipped_for_its_size() {
    let node = |name: &str, storage: &str, images: Value| {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"pods": "110", "nvidia.com/gpu": "1", "ephemeral-storage": storage},
                "images": images,
            },
        })
    };
    let names = ["registry.example/model-server:1"];
    let has = json!([{"names": names, "sizeBytes": 12_u64 << 30}]);
    let all = [
        node("has", "100Gi", has),
        node("large", "100Gi", json!([])),
        node("small", "8Gi", json!([])),
    ];
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sizes.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all});
    std::fs::write(&path, list.to_string()).expect("a file that can be written");
    let plan = |max: &str| {
        let max = format!("--max-image-size={max}");
        let nodes = path.display().to_string();
        let output = headstart(&["-f", "-", "--nodes", &nodes, &max], &deployment(""));
        text(&output.stdout).to_owned()
    };
    let too_large = "ImageTooLarge: image \"registry.example/model-server:1\" takes 12Gi, and --max-image-size allows 10Gi";
    let no_room = "InsufficientDisk: the images take 12Gi, the node has at most 8Gi of disk left";
    let table = plan("10Gi");
    assert!(table.contains("1 image to 1 of 3 nodes"), "{table}");
    assert_eq!(table.matches(too_large).count(), 2, "{table}");
    let table = plan("20Gi");
    assert!(table.contains("1 image to 2 of 3 nodes"), "{table}");
    assert!(table.contains(no_room), "{table}");
    let table = plan("none");
    assert!(table.contains("1 image to 3 of 3 nodes"), "{table}");
}
