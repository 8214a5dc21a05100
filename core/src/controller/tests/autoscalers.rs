//! Tests of nodes that an autoscaler marks.

use super::kubelet::*;
use super::world::*;
use crate::controller::ControllerConfig;
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

fn marked(key: &str, effect: &str) -> Value {
    json!({"spec": {"taints": [{"key": key, "effect": effect}]}})
}

fn candidate() -> Value {
    marked("DeletionCandidateOfClusterAutoscaler", "PreferNoSchedule")
}

/// A Deployment that tolerates every taint.
fn tolerant(name: &str) -> Value {
    let mut object = web(name, &["a:1"]);
    object["spec"]["template"]["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    object
}

#[test]
fn a_node_that_an_autoscaler_is_removing_gets_no_pod() {
    let mut world = World::new();
    world.node("stays");
    for key in ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted"] {
        world.node_with(key, &marked(key, "NoSchedule"));
    }
    world.deploy(tolerant("web"));
    assert_eq!(nodes_of(&world.create_all()), ["stays"]);
    world.node("karpenter.sh/disrupted");
    assert_eq!(
        nodes_of(&world.create_all()),
        ["karpenter.sh/disrupted"],
        "it is not removed after all"
    );
}

#[test]
fn a_node_that_an_autoscaler_may_remove_comes_last() {
    let mut world = World::with(ControllerConfig {
        max_writes: 1,
        ..config()
    });
    world.node_with("a", &candidate());
    world.node("b");
    world.node("c");
    world.deploy(web("web", &["a:1"]));
    let mut order = Vec::new();
    for _ in 0..3 {
        let pods = world.create_all();
        order.extend(pods.iter().map(|pod| node_of(pod).to_owned()));
    }
    assert_eq!(order, ["b", "c", "a"]);
}

#[test]
fn a_node_that_an_autoscaler_may_remove_is_not_refreshed() {
    let refreshing = || ControllerConfig {
        refresh: Some(SignedDuration::from_mins(10)),
        ..config()
    };
    let mut world = World::with(refreshing());
    world.nodes(2);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    world.node_with("n001", &candidate());
    // A pod that a refresh replaces goes first.
    let replaced = |world: &mut World| -> Vec<String> {
        let deletes = world.take_deletes().into_iter();
        let of = |uid: String| {
            pods.iter()
                .find(|pod| pod.metadata.uid.as_ref() == Some(&uid))
        };
        let nodes = deletes.filter_map(|(_, uid)| of(uid)).map(node_of);
        nodes.map(str::to_owned).collect()
    };
    world.advance(secs(700));
    assert_eq!(replaced(&mut world), ["n002"]);
    let mut world = world.new_leader(refreshing());
    assert_eq!(replaced(&mut world), ["n002"], "nor by the next leader");
    world.node("n001");
    assert_eq!(replaced(&mut world), ["n001"], "it stays");
}
