//! Namespaces whose ResourceQuotas count pods: prefetch pods leave the room that rollouts need.

use super::holds::{answer, hold, take_resumes};
use super::world::*;
use crate::controller::command::{CommandResult, ResumeOutcome};
use crate::event::EventReason;
use crate::resource_quota::PodQuota;
use crate::store::{ObjectKey, Update};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

impl World {
    fn quota(&mut self, resource: &str, hard: u64, used: u64) {
        let amount = |count: u64| json!({resource: count.to_string()});
        let quota = json!({
            "spec": {"hard": amount(hard)}, "status": {"hard": amount(hard), "used": amount(used)},
        });
        let quota = serde_json::from_value(quota).unwrap();
        let quota = PodQuota::from_resource_quota(&quota, Some("headstart-prefetch"));
        self.update_quota(Update::Applied(quota_key(), quota));
    }

    fn update_quota(&mut self, update: Update<ObjectKey, PodQuota>) {
        let changes = self.store.apply_quota(&None, update);
        for change in changes {
            self.apply(change.into());
        }
    }

    /// Answers the deletes of these pods, and shows that they are gone. Returns how many there were.
    fn delete_pods(&mut self, pods: &[Pod]) -> usize {
        let deletes = self.take_deletes();
        for (id, uid) in &deletes {
            self.finish(*id, CommandResult::PodDeleted(Ok(())));
            let of_uid = |pod: &&Pod| pod.metadata.uid.as_ref() == Some(uid);
            let pod = pods.iter().find(of_uid).expect("one of them").clone();
            self.hide(&pod);
        }
        deletes.len()
    }
}

fn quota_key() -> ObjectKey {
    ObjectKey {
        namespace: "shop".into(),
        name: "pods".into(),
    }
}

/// A Deployment of four pods that may have one more, and is not rolled out.
fn four(object: Value) -> Value {
    let status = merged(rolling(), &json!({"replicas": 4}));
    let change = json!({
        "spec": {"replicas": 4, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
        "status": status,
    });
    merged(object, &change)
}

/// A held Deployment on four nodes, in a namespace with this quota. Four pods are its own.
fn held(resource: &str, hard: u64) -> World {
    let mut world = World::new();
    world.nodes(4);
    world.quota(resource, hard, 4);
    let object = four(hold(&world, "web", &["a:1"]));
    world.deploy(object);
    world
}

/// The condition of a Deployment whose ReplicaSet a quota refuses.
fn refused() -> Value {
    json!([{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"web-1\" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=5, limited: pods=5",
    }])
}

#[test]
fn a_hold_ends_at_once_where_only_the_place_of_the_surge_is_left() {
    for resource in ["count/pods", "pods"] {
        let mut world = held(resource, 5);
        assert!(world.take_creates().is_empty());
        answer(&mut world, Ok(ResumeOutcome::Resumed));
        let why = format!(
            "quota pods leaves no place for a prefetch pod: {resource}=5, used by others 4, kept for rollouts 1"
        );
        let note = &world.take_events(EventReason::RolloutResumed)[0];
        assert!(note.contains(&why), "{note}");
        assert_eq!(world.take_events(EventReason::PrefetchBlocked).len(), 1);
    }
}

#[test]
fn prefetch_pods_follow_each_other_in_the_places_that_are_left() {
    let mut world = held("count/pods", 7);
    for (round, waiting) in [4, 2].into_iter().enumerate() {
        assert_eq!(world.pending(), waiting, "round {round}");
        let pods = world.create_all();
        assert_eq!(pods.len(), 2, "round {round}");
        world.quota("count/pods", 7, 6);
        world.pull(&pods);
        assert_eq!(world.delete_pods(&pods), 2, "finished pods count too");
        assert!(
            world.take_creates().is_empty(),
            "the quota still counts them"
        );
        world.quota("count/pods", 7, 4);
    }
    answer(&mut world, Ok(ResumeOutcome::Resumed));
    let notes = world.take_events(EventReason::RolloutResumed);
    assert!(notes[0].contains("on 4 of 4 nodes"), "{notes:?}");
    assert!(world.take_events(EventReason::PrefetchBlocked).is_empty());
}

#[test]
fn a_hold_ends_after_its_finished_pods_are_gone() {
    let mut world = held("count/pods", 20);
    let pods = world.create_all();
    assert_eq!(pods.len(), 4);
    world.pull(&pods);
    assert!(
        take_resumes(&mut world).is_empty(),
        "the pods are still counted"
    );
    assert_eq!(world.delete_pods(&pods), 4);
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_hold_waits_three_seconds_for_its_finished_pods_to_go() {
    let mut world = held("count/pods", 20);
    let pods = world.create_all();
    world.pull(&pods);
    world.advance(secs(3));
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn finished_pods_stay_where_only_running_ones_count() {
    let mut world = held("pods", 20);
    let pods = world.create_all();
    world.pull(&pods);
    assert!(world.take_deletes().is_empty());
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_quota_that_comes_later_lets_no_finished_pod_stay() {
    let mut world = World::new();
    world.nodes(3);
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    world.pull(&pods);
    assert!(world.take_deletes().is_empty());
    world.quota("count/pods", 9, 11);
    assert_eq!(world.take_deletes().len(), 3);
}

#[test]
fn a_full_quota_may_still_count_pods_that_are_gone() {
    let mut world = held("count/pods", 6);
    let pods = world.create_all();
    assert_eq!(pods.len(), 1);
    world.quota("count/pods", 6, 5);
    world.pull(&pods);
    world.delete_pods(&pods);
    world.advance(secs(9));
    assert!(world.take_creates().is_empty() && take_resumes(&mut world).is_empty());
    // It is full indeed.
    world.advance(secs(1));
    assert_eq!(take_resumes(&mut world).len(), 1);
}

#[test]
fn a_rollout_that_a_quota_stops_has_all_prefetch_pods_of_its_namespace_deleted() {
    let mut world = World::new();
    world.nodes(2);
    world.deploy(web("other", &["b:1"]));
    world.deploy(web("web", &["a:1"]));
    let pods = world.create_all();
    assert_eq!(pods.len(), 4);
    let stopped = |images: &[&str], conditions: Value| {
        let object = merged(
            four(web("web", images)),
            &json!({"metadata": {"generation": 2}}),
        );
        merged(
            object,
            &json!({"status": {"observedGeneration": 2, "conditions": conditions}}),
        )
    };
    world.deploy(stopped(&["a:1"], refused()));
    assert_eq!(world.delete_pods(&pods), 4, "also of the other Deployment");
    world.advance(secs(400));
    assert!(world.take_creates().is_empty());
    let notes = world.take_events(EventReason::PrefetchBlocked);
    assert!(
        notes[0].contains("a quota keeps the rollout of shop/web from creating its pods"),
        "{notes:?}"
    );
    // The places that the rollout lacked are its own until it is over.
    world.deploy(stopped(&["a:1"], Value::Null));
    world.advance(secs(400));
    assert!(world.take_creates().is_empty());
    let done = settled(world.now.wall.as_second());
    world.deploy(merged(web("web", &["a:1"]), &json!({"status": done})));
    world.advance(secs(700));
    assert!(!world.take_creates().is_empty());
}

#[test]
fn images_are_not_refreshed_where_finished_pods_cannot_stay() {
    let mut world = World::new();
    world.nodes(1);
    world.quota("count/pods", 50, 1);
    let every = json!({"metadata": {"annotations": {"headstart.dev/refresh": "1h"}}});
    world.deploy(merged(web("web", &["a:1"]), &every));
    let pods = world.create_all();
    world.pull(&pods);
    world.delete_pods(&pods);
    world.advance(secs(9000));
    assert!(world.take_creates().is_empty());
}

#[test]
fn a_quota_that_is_gone_limits_nothing() {
    let mut world = held("count/pods", 6);
    assert_eq!(world.create_all().len(), 1);
    world.update_quota(Update::Deleted(quota_key()));
    assert_eq!(world.create_all().len(), 3);
}
