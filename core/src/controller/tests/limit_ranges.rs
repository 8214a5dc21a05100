//! Namespaces whose LimitRanges bound what a pod may ask for.

use super::holds::{hold, take_resumes};
use super::world::*;
use crate::event::EventReason;
use crate::limit_range::ResourceBounds;
use crate::store::{ObjectKey, Update};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

impl World {
    fn limit_range(&mut self, limit: Value) {
        let range = json!({"spec": {"limits": [limit]}});
        let range = serde_json::from_value(range).unwrap();
        let key = ObjectKey {
            namespace: "shop".into(),
            name: "floor".into(),
        };
        let bounds = ResourceBounds::from_limit_range(&range);
        let changes = self
            .store
            .apply_limit_range(&None, Update::Applied(key, bounds));
        assert!(changes.is_empty());
    }
}

fn memory(pod: &Pod) -> Value {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    serde_json::to_value(&container.resources).unwrap()["requests"]["memory"].clone()
}

#[test]
fn pods_ask_for_what_the_limit_range_wants_from_then_on() {
    let mut world = World::new();
    world.limit_range(json!({"type": "Container", "min": {"memory": "16Mi"}}));
    world.node("n1");
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    assert_eq!(memory(&pods[0]), "16Mi");
    world.limit_range(json!({"type": "Container", "min": {"memory": "20Mi"}}));
    world.deploy(web("web", &["a:2"]));
    assert_eq!(memory(&world.create_all()[0]), "20Mi");
}

#[test]
fn a_limit_range_that_no_pod_meets_is_said_once_and_holds_nothing_up() {
    let mut world = World::new();
    world.limit_range(json!({"type": "Container", "min": {"memory": "4Gi"}}));
    world.nodes(3);
    let object = hold(&world, "web", &["a:1"]);
    world.deploy(object);
    assert!(world.take_creates().is_empty());
    let notes = world.take_events(EventReason::PrefetchBlocked);
    assert_eq!(notes.len(), 1);
    let why =
        "no prefetch pod meets the LimitRanges of shop: each container needs 4096Mi of memory";
    assert!(notes[0].contains(why), "{notes:?}");
    assert_eq!(take_resumes(&mut world).len(), 1);
}
