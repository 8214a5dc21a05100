use super::*;
use headstart_core::image::Image;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

fn cluster() -> Arc<Cluster> {
    let cluster = Cluster::new(Settings {
        own_namespace: "headstart".into(),
        noop_image: "headstart:v1".into(),
        node_images: true,
        metrics: Arc::default(),
    });
    namespace(&cluster, "shop", Some("enabled"));
    cluster
}

fn namespace(cluster: &Cluster, name: &str, mode: Option<&str>) {
    let labels = mode.map(|mode| json!({"headstart.dev/prefetch": mode}));
    let object =
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
    cluster.on_namespace(&None, Change::Put(object));
}

fn deployment(cluster: &Cluster, namespace: &str, change: Value) {
    let mut object = json!({
        "metadata": {"namespace": namespace, "name": "web", "uid": "1", "generation": 1},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}}},
    });
    json_patch::merge(&mut object, &change);
    cluster.on_deployment(&None, Change::Put(serde_json::from_value(object).unwrap()));
}

fn key(namespace: &str) -> DeploymentKey {
    DeploymentKey {
        namespace: namespace.into(),
        name: "web".into(),
    }
}

#[tokio::test]
async fn only_what_changes_the_plan_asks_for_work() {
    let cluster = cluster();
    deployment(&cluster, "shop", json!({}));
    assert_eq!(cluster.rollouts.take().await, key("shop"));
    for harmless in [
        json!({"spec": {"replicas": 9}}),
        json!({"metadata": {"annotations": {"a": "b"}}}),
        json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}),
        json!({"status": {"replicas": 3}}),
    ] {
        deployment(&cluster, "shop", harmless.clone());
        assert!(cluster.rollouts.is_empty(), "{harmless}");
    }
    for change in [
        json!({"metadata": {"labels": {"headstart.dev/prefetch": "disabled"}}}),
        json!({"metadata": {"annotations": {"headstart.dev/max-nodes": "3"}}}),
        json!({"spec": {"template": {"spec": {"nodeSelector": {"pool": "web"}}}}}),
    ] {
        deployment(&cluster, "shop", change.clone());
        assert_eq!(cluster.rollouts.len(), 1, "{change}");
        cluster.rollouts.clear();
    }
}

#[test]
fn only_opted_in_deployments_are_found() {
    let cluster = cluster();
    for ns in ["shop", "other", "kube-system", "headstart"] {
        deployment(&cluster, ns, json!({}));
    }
    namespace(&cluster, "kube-system", Some("enabled"));
    namespace(&cluster, "headstart", Some("enabled"));
    assert!(cluster.opted_in(&key("shop")).is_some());
    for ns in ["other", "kube-system", "headstart"] {
        assert!(cluster.opted_in(&key(ns)).is_none(), "{ns}");
    }
}

#[test]
fn a_namespace_has_to_consent_and_may_refuse() {
    let cluster = cluster();
    let modes = |own: &str| {
        let change = json!({"metadata": {"labels": {"headstart.dev/prefetch": own}}});
        deployment(&cluster, "team", change);
        [
            None,
            Some("yes"),
            Some("disabled"),
            Some("allowed"),
            Some("hold"),
        ]
        .map(|label| {
            namespace(&cluster, "team", label);
            cluster.stored(&key("team")).unwrap().1
        })
    };
    use Mode::{Disabled, Enabled, Hold};
    assert_eq!(
        modes("enabled"),
        [Disabled, Disabled, Disabled, Enabled, Enabled]
    );
    assert_eq!(modes("hold"), [Disabled, Disabled, Disabled, Hold, Hold]);
    cluster.rollouts.clear();
    namespace(&cluster, "team", Some("allowed"));
    assert_eq!(cluster.rollouts.len(), 1, "somebody has to hear of it");
}

#[test]
fn a_list_that_is_read_again_drops_what_it_does_not_mention() {
    let cluster = cluster();
    deployment(&cluster, "shop", json!({}));
    cluster.rollouts.clear();
    cluster.on_deployment(&None, Change::Begin);
    cluster.on_deployment(&None, Change::End);
    assert!(cluster.opted_in(&key("shop")).is_none());
    assert_eq!(cluster.rollouts.len(), 1);
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

#[test]
fn pods_of_others_are_not_found_whatever_their_labels() {
    let cluster = cluster();
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
        cluster.on_pod(&None, Change::Put(serde_json::from_value(pod).unwrap()));
        assert!(cluster.with_pods(|_, _| true).is_empty(), "{what}");
        assert!(cluster.places.is_empty(), "{what}");
    }
}

#[test]
fn pods_are_found_by_their_deployment() {
    let cluster = cluster();
    let pod: Pod = serde_json::from_value(prefetch_pod()).unwrap();
    cluster.on_pod(&None, Change::Put(pod.clone()));
    let found = cluster.pods_at(&key("shop"), "n1");
    assert_eq!(found[0].name, "prefetch-web-1");
    assert_eq!(
        *found[0].images,
        [
            Some("app:1".parse().unwrap()),
            Some("app:2".parse().unwrap())
        ]
    );
    assert_eq!(cluster.places.len(), 1);
    cluster.on_pod(&None, Change::Remove(pod));
    assert!(
        cluster.nodes_with_pods(&key("shop")).is_empty()
            && cluster.with_pods(|_, _| true).is_empty()
    );
}

fn node(cluster: &Cluster, change: Value) {
    let mut object = json!({
        "metadata": {"name": "n1", "uid": "1"},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]},
    });
    json_patch::merge(&mut object, &change);
    cluster.on_node(&None, Change::Put(serde_json::from_value(object).unwrap()));
}

#[tokio::test]
async fn a_heartbeat_is_no_change_of_a_node() {
    let cluster = cluster();
    node(&cluster, json!({}));
    assert_eq!(&*cluster.machines.take().await, "n1");
    node(
        &cluster,
        json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:10Z"}]}}),
    );
    assert!(cluster.machines.is_empty());
    for change in [
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        json!({"metadata": {"uid": "2"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
    ] {
        node(&cluster, change.clone());
        assert_eq!(cluster.machines.len(), 1, "{change}");
        cluster.machines.clear();
    }
}

#[test]
fn a_node_reports_images_by_their_normalised_names() {
    let cluster = cluster();
    node(
        &cluster,
        json!({"status": {"images": [{"names": ["docker.io/library/nginx:1.27", "docker.io/library/nginx@sha256:0"]}]}}),
    );
    let reported = |given: &str| {
        let image = Image {
            reference: given.parse().unwrap(),
            as_written: given.into(),
            always: false,
        };
        cluster.node("n1").unwrap().reports(&image)
    };
    assert!(reported("nginx:1.27") && !reported("nginx:1.28"));
}

#[tokio::test]
async fn held_deployments_are_known_by_their_mark() {
    let cluster = cluster();
    let held = |value: Value| {
        let change = json!({"metadata": {"labels": {"headstart.dev/held": value}}});
        deployment(&cluster, "shop", change);
        cluster.held()
    };
    assert!(held(Value::Null).is_empty());
    assert_eq!(held(json!("true")), [key("shop")]);
    cluster.rollouts.clear();
    assert!(held(Value::Null).is_empty());
    assert_eq!(cluster.rollouts.len(), 1, "somebody has to hear of it");
    held(json!("true"));
    cluster.on_deployment(&None, Change::Begin);
    cluster.on_deployment(&None, Change::End);
    assert!(cluster.held().is_empty(), "it is gone");
}

#[test]
fn of_a_large_cluster_a_review_does_not_ask_which_nodes_have_the_images() {
    let cluster = cluster();
    cluster.expect_lists(0);
    let nodes = |range: std::ops::Range<usize>| {
        for index in range {
            let node = json!({
                "metadata": {"name": format!("n{index}"), "labels": {"kubernetes.io/os": "linux"}},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "images": [{"names": ["docker.io/library/app:1"]}],
                },
            });
            cluster.on_node(&None, Change::Put(serde_json::from_value(node).unwrap()));
        }
    };
    deployment(&cluster, "shop", json!({}));
    let (workload, _) = cluster.stored(&key("shop")).unwrap();
    let settings = headstart_core::testing::settings();
    let stock = || cluster.stock(&workload, &settings);
    use headstart_core::hold::ImagePresence;
    assert_eq!(stock(), ImagePresence::NoEligibleNode);
    nodes(0..1000);
    assert_eq!(stock(), ImagePresence::OnAllNodes);
    nodes(1000..1001);
    assert_eq!(stock(), ImagePresence::Unknown);
}
