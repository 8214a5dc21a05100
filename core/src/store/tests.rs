use super::*;
use crate::api::mode::namespace_mode;
use crate::image::Image;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use serde_json::{Value, json};

fn store() -> Store {
    let mut store = Store::new("headstart");
    namespace(&mut store, "shop", Some("enabled"));
    store
}

fn namespace(store: &mut Store, name: &str, mode: Option<&str>) -> Vec<Change> {
    let labels = mode.map(|mode| json!({"headstart.dev/prefetch": mode}));
    let object = json!({"metadata": {"name": name, "labels": labels}});
    let namespace: Namespace = serde_json::from_value(object).unwrap();
    let mode = namespace_mode(namespace.metadata.labels.as_ref()).unwrap_or(None);
    store.apply_namespace(&None, Update::Applied(name.to_owned(), mode))
}

fn deployment(store: &mut Store, namespace: &str, change: Value) -> Vec<Change> {
    let mut object = json!({
        "metadata": {"namespace": namespace, "name": "web", "uid": "1", "generation": 1},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}}},
    });
    json_patch::merge(&mut object, &change);
    let object: Deployment = serde_json::from_value(object).unwrap();
    let workload = Workload::from_deployment(&object).unwrap();
    store.apply_deployment(&None, Update::Applied(workload.key.clone(), workload))
}

fn key(namespace: &str) -> DeploymentKey {
    DeploymentKey {
        namespace: namespace.into(),
        name: "web".into(),
    }
}

fn changed(namespace: &str) -> Vec<Change> {
    vec![Change::Deployment(key(namespace))]
}

#[test]
fn only_what_changes_the_plan_is_a_change_of_a_deployment() {
    let mut store = store();
    assert_eq!(deployment(&mut store, "shop", json!({})), changed("shop"));
    for harmless in [
        json!({"spec": {"replicas": 9}}),
        json!({"metadata": {"annotations": {"a": "b"}}}),
        json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}),
    ] {
        assert_eq!(
            deployment(&mut store, "shop", harmless.clone()),
            [],
            "{harmless}"
        );
    }
    let failing = json!({"status": {"replicas": 3, "unavailableReplicas": 1}});
    let progressed = [Change::Rollout(key("shop"))];
    assert_eq!(deployment(&mut store, "shop", failing), progressed);
    for change in [
        json!({"metadata": {"labels": {"headstart.dev/prefetch": "disabled"}}}),
        json!({"metadata": {"annotations": {"headstart.dev/max-nodes": "3"}}}),
        json!({"spec": {"template": {"spec": {"nodeSelector": {"pool": "web"}}}}}),
    ] {
        assert_eq!(
            deployment(&mut store, "shop", change.clone()),
            changed("shop"),
            "{change}"
        );
    }
}

#[test]
fn only_opted_in_deployments_are_found() {
    let mut store = store();
    for ns in ["shop", "other", "kube-system", "headstart"] {
        deployment(&mut store, ns, json!({}));
    }
    namespace(&mut store, "kube-system", Some("enabled"));
    namespace(&mut store, "headstart", Some("enabled"));
    assert!(store.enabled(&key("shop")).is_some());
    for ns in ["other", "kube-system", "headstart"] {
        assert!(store.enabled(&key(ns)).is_none(), "{ns}");
    }
}

#[test]
fn a_namespace_has_to_consent_and_may_refuse() {
    let mut store = store();
    let mut modes = |own: &str| {
        let change = json!({"metadata": {"labels": {"headstart.dev/prefetch": own}}});
        deployment(&mut store, "team", change);
        [
            None,
            Some("yes"),
            Some("disabled"),
            Some("allowed"),
            Some("hold"),
        ]
        .map(|label| {
            namespace(&mut store, "team", label);
            store.get(&key("team")).unwrap().1
        })
    };
    use Mode::{Disabled, Enabled, Hold};
    assert_eq!(
        modes("enabled"),
        [Disabled, Disabled, Disabled, Enabled, Enabled]
    );
    assert_eq!(modes("hold"), [Disabled, Disabled, Disabled, Hold, Hold]);
    let changes = namespace(&mut store, "team", Some("allowed"));
    assert_eq!(changes, changed("team"));
}

#[test]
fn a_list_that_is_read_again_drops_what_it_does_not_mention() {
    let mut store = store();
    deployment(&mut store, "shop", json!({}));
    store.apply_deployment(&None, Update::ListStarted);
    let changes = store.apply_deployment(&None, Update::ListFinished);
    assert!(store.enabled(&key("shop")).is_none());
    assert_eq!(changes, changed("shop"));
}

/// A prefetch pod of shop/web on n1.
fn prefetch_pod() -> Value {
    json!({
        "metadata": {
            "namespace": "shop", "name": "prefetch-web-1", "labels": {"headstart.dev/revision": "r1"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1"}],
        },
        "spec": {
            "nodeName": "n1", "restartPolicy": "Never", "activeDeadlineSeconds": 60,
            "containers": [
                {"name": "image-0", "image": "headstart:v1", "command": ["/headstart", "noop"]},
                {"name": "image-1", "image": "app:2", "command": ["/.headstart/headstart", "noop"]},
            ],
            "volumes": [{"name": "image-0", "image": {"reference": "app:1"}}],
        },
    })
}

/// Applies a pod as the watch brings it.
fn observe(store: &mut Store, pod: &Pod) -> Vec<Change> {
    let Some(id) = PodId::of(pod) else {
        return Vec::new();
    };
    let observed = ObservedPod::from_pod(pod, "headstart:v1");
    store.apply_pod(&None, Update::Applied(id, observed))
}

#[test]
fn pods_of_others_are_not_found_whatever_their_labels() {
    let mut store = store();
    for (what, change) in [
        (
            "a DaemonSet's in kube-system",
            json!({"metadata": {"namespace": "kube-system", "name": "proxy-x7x2z"}, "spec": {"restartPolicy": "Always"}}),
        ),
        (
            "an exempt namespace",
            json!({"metadata": {"namespace": "kube-system"}}),
        ),
        (
            "our own namespace",
            json!({"metadata": {"namespace": "headstart"}}),
        ),
        (
            "a tenant's, with all our labels, annotations and owner",
            json!({"spec": {"containers": [{"name": "c", "image": "app:1"}]}}),
        ),
        (
            "one that is kept from being scheduled",
            json!({"spec": {"nodeName": null, "schedulingGates": [{"name": "example.com/never"}]}}),
        ),
    ] {
        let mut pod = prefetch_pod();
        pod["metadata"]["annotations"] = json!({"headstart.dev/node": "n1"});
        pod["metadata"]["labels"]["headstart.dev/deployment"] = json!("web");
        json_patch::merge(&mut pod, &change);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(observe(&mut store, &pod), [], "{what}");
        assert_eq!(store.deployments_with_pods().count(), 0, "{what}");
    }
}

#[test]
fn pods_are_found_by_their_deployment() {
    let mut store = store();
    let pod: Pod = serde_json::from_value(prefetch_pod()).unwrap();
    let at = DeploymentNode {
        key: key("shop"),
        node: "n1".into(),
    };
    assert_eq!(observe(&mut store, &pod), [Change::Pod(at.clone())]);
    assert_eq!(observe(&mut store, &pod), [], "nothing changed");
    let found = store.pods_on_node(&key("shop"), "n1");
    assert_eq!(found[0].name, "prefetch-web-1");
    assert_eq!(
        *found[0].images,
        [
            Some("app:1".parse().unwrap()),
            Some("app:2".parse().unwrap())
        ]
    );
    let id = PodId::of(&pod).unwrap();
    let changes = store.apply_pod(&None, Update::Deleted(id));
    assert_eq!(changes, [Change::Pod(at)]);
    assert!(store.nodes_with_pods(&key("shop")).is_empty());
    assert_eq!(store.deployments_with_pods().count(), 0);
}

fn node(store: &mut Store, change: Value) -> Vec<Change> {
    let mut object = json!({
        "metadata": {"name": "n1", "uid": "1"},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]},
    });
    json_patch::merge(&mut object, &change);
    let node: Node = serde_json::from_value(object).unwrap();
    let record = NodeRecord::from_node(&node, true).unwrap();
    store.apply_node(&None, Update::Applied(record.name().into(), record))
}

#[test]
fn a_heartbeat_is_no_change_of_a_node() {
    let mut store = store();
    let changed = [Change::Node("n1".into())];
    assert_eq!(node(&mut store, json!({})), changed);
    let heartbeat = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:10Z"}]}});
    assert_eq!(node(&mut store, heartbeat), []);
    for change in [
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        json!({"metadata": {"uid": "2"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
    ] {
        assert_eq!(node(&mut store, change.clone()), changed, "{change}");
    }
}

#[test]
fn a_node_reports_images_by_their_normalised_names() {
    let mut store = store();
    node(
        &mut store,
        json!({"status": {"images": [{"names": ["docker.io/library/nginx:1.27", "docker.io/library/nginx@sha256:0"]}]}}),
    );
    let reported = |given: &str| {
        let image = Image {
            reference: given.parse().unwrap(),
            as_written: given.into(),
            always: false,
        };
        store.node("n1").unwrap().reports_image(&image)
    };
    assert!(reported("nginx:1.27") && !reported("nginx:1.28"));
}

#[test]
fn a_change_of_the_images_of_a_node_is_known_from_others() {
    let mut store = store();
    let images = |bytes: u64, ready: &str| {
        json!({"status": {
            "images": [{"names": ["docker.io/library/app:1"], "sizeBytes": bytes}],
            "conditions": [{"type": "Ready", "status": ready}],
        }})
    };
    node(&mut store, json!({}));
    let changed = [Change::NodeImages("n1".into())];
    assert_eq!(node(&mut store, images(1, "True")), changed);
    assert_eq!(node(&mut store, images(1, "True")), []);
    assert_eq!(node(&mut store, images(1 << 30, "True")), changed);
    let changed = [Change::Node("n1".into())];
    assert_eq!(node(&mut store, images(1, "False")), changed);
}

#[test]
fn held_deployments_are_known_by_their_mark() {
    let mut store = store();
    fn mark(store: &mut Store, value: Value) -> Vec<Change> {
        let change = json!({"metadata": {"labels": {"headstart.dev/held": value}}});
        deployment(store, "shop", change)
    }
    fn held(store: &Store) -> Vec<&DeploymentKey> {
        store.held_deployments().collect()
    }
    mark(&mut store, Value::Null);
    assert!(held(&store).is_empty());
    assert_eq!(mark(&mut store, json!("true")), changed("shop"));
    assert_eq!(held(&store), [&key("shop")]);
    assert_eq!(mark(&mut store, Value::Null), changed("shop"));
    assert!(held(&store).is_empty());
    mark(&mut store, json!("true"));
    store.apply_deployment(&None, Update::ListStarted);
    store.apply_deployment(&None, Update::ListFinished);
    assert!(held(&store).is_empty(), "it is gone");
}

#[test]
fn of_a_large_cluster_a_review_does_not_ask_which_nodes_have_the_images() {
    let mut store = store();
    deployment(&mut store, "shop", json!({}));
    let add = |store: &mut Store, names: std::ops::Range<usize>| {
        for index in names {
            let change = json!({
                "metadata": {"name": format!("n{index}"), "labels": {"kubernetes.io/os": "linux"}},
                "status": {"images": [{"names": ["docker.io/library/app:1"]}]},
            });
            node(store, change);
        }
    };
    let presence = |store: &Store| {
        let (workload, _) = store.get(&key("shop")).unwrap();
        let no_pods = |_: &str| Vec::new();
        let settings = crate::testing::settings();
        crate::image_presence(
            workload,
            workload,
            &store.node_snapshot(),
            no_pods,
            &settings,
        )
    };
    use crate::hold::ImagePresence;
    assert_eq!(presence(&store), ImagePresence::NoEligibleNode);
    add(&mut store, 0..1000);
    assert_eq!(presence(&store), ImagePresence::OnAllNodes);
    add(&mut store, 1000..1001);
    assert_eq!(presence(&store), ImagePresence::Unknown);
}
