use super::*;
use crate::pod::prefetch_pod;
use crate::scheduling::node::PullMethod;
use crate::testing::{settings, wants};
use serde_json::{Value, json};

const CLASS: Option<&str> = Some("headstart-prefetch");

fn quota(spec: &Value, used: &Value) -> PodQuota {
    let quota = json!({"spec": spec, "status": {"hard": spec["hard"], "used": used}});
    PodQuota::from_resource_quota(&serde_json::from_value(quota).unwrap(), CLASS)
}

/// A quota of so many pods, by this name of the resource.
fn pods(resource: &str, hard: u64, used: u64) -> PodQuota {
    let amount = |count: u64| json!({resource: count.to_string()});
    quota(&json!({"hard": amount(hard)}), &amount(used))
}

fn footprint(spec: Value) -> Footprint {
    Footprint::of_pod(&serde_json::from_value(spec).unwrap())
}

/// A prefetch pod of one image.
fn one() -> Footprint {
    let pod = prefetch_pod(&wants(&["a:1"]), "n1", PullMethod::Container, &settings());
    Footprint::of_pod(&pod.spec.unwrap())
}

fn demand(stored: u64, unfinished: u64, creating: u64, rollouts: u64) -> Demand {
    let template =
        json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "500m"}}}]});
    Demand {
        one: one(),
        own: OwnPods { stored, unfinished },
        creating,
        rollouts: footprint(template).times(rollouts),
    }
}

#[track_caller]
fn assert_none(room: QuotaRoom, why: &str) {
    assert_eq!(room, QuotaRoom::None(why.to_owned()));
}

#[test]
fn the_place_that_a_rollout_needs_is_kept() {
    for resource in ["pods", "count/pods"] {
        assert_eq!(
            pods(resource, 5, 4).room("q", &demand(0, 0, 0, 0)),
            QuotaRoom::Free
        );
        let why = format!(
            "quota q leaves no place for a prefetch pod: {resource}=5, used by others 4, kept for rollouts 1"
        );
        assert_none(pods(resource, 5, 4).room("q", &demand(0, 0, 0, 1)), &why);
        assert_eq!(
            pods(resource, 6, 4).room("q", &demand(0, 0, 0, 1)),
            QuotaRoom::Free
        );
    }
}

#[test]
fn prefetch_pods_share_what_is_left() {
    // Four others, one place for the rollout, three for prefetch pods.
    let room = |used, demand: &Demand| {
        let quota = pods("count/pods", 8, used).seen_with(demand.own);
        quota.room("q", demand)
    };
    assert_eq!(room(6, &demand(2, 2, 0, 1)), QuotaRoom::Free);
    assert_eq!(room(7, &demand(3, 3, 0, 1)), QuotaRoom::Taken);
    assert_eq!(
        room(7, &demand(3, 0, 0, 1)),
        QuotaRoom::Taken,
        "finished pods count"
    );
    assert_eq!(
        room(4, &demand(0, 0, 3, 1)),
        QuotaRoom::Taken,
        "not counted by the quota yet"
    );
    assert_eq!(
        room(7, &demand(0, 0, 3, 1)),
        QuotaRoom::Taken,
        "counted, and not visible yet"
    );
    let behind = pods("count/pods", 8, 4).room("q", &demand(3, 3, 0, 1));
    assert_eq!(behind, QuotaRoom::Taken, "visible, and not counted yet");
}

#[test]
fn only_stored_pods_count_after_their_end() {
    assert!(pods("count/pods", 8, 7).counts_finished_pods());
    assert!(!pods("pods", 8, 7).counts_finished_pods());
    assert_none(
        pods("pods", 8, 7).room("q", &demand(3, 0, 0, 1)),
        "quota q leaves no place for a prefetch pod: pods=8, used by others 7, kept for rollouts 1",
    );
}

#[test]
fn a_lowered_quota_counts_before_its_status_follows() {
    let object = json!({
        "spec": {"hard": {"pods": "4"}},
        "status": {"hard": {"pods": "9"}, "used": {"pods": "4"}},
    });
    let lowered = PodQuota::from_resource_quota(&serde_json::from_value(object).unwrap(), CLASS);
    assert!(matches!(
        lowered.room("q", &demand(0, 0, 0, 0)),
        QuotaRoom::None(_)
    ));
    let new = json!({"spec": {"hard": {"pods": "0"}}});
    let new = PodQuota::from_resource_quota(&serde_json::from_value(new).unwrap(), CLASS);
    assert_eq!(
        new.room("q", &demand(0, 0, 0, 0)),
        QuotaRoom::Free,
        "not in force yet"
    );
}

#[test]
fn cpu_and_memory_are_kept_for_a_rollout_too() {
    let cpu = |used: &str| {
        let hard = json!({"hard": {"requests.cpu": "3"}});
        let room = quota(&hard, &json!({"requests.cpu": used}));
        room.room("compute", &demand(0, 0, 0, 1))
    };
    assert_eq!(cpu("2499m"), QuotaRoom::Free);
    assert_none(
        cpu("2.5"),
        "quota compute leaves no place for a prefetch pod: requests.cpu=3000m, used by others 2500m, kept for rollouts 500m",
    );
    for (name, hard) in [
        ("cpu", "0"),
        ("memory", "1023Ki"),
        ("limits.cpu", "99m"),
        ("limits.memory", "31Mi"),
    ] {
        let small = quota(&json!({"hard": {name: hard}}), &json!({name: "0"}));
        assert!(
            matches!(small.room("q", &demand(0, 0, 0, 0)), QuotaRoom::None(_)),
            "{name}"
        );
    }
    let other = quota(
        &json!({"hard": {"services": "0"}}),
        &json!({"services": "0"}),
    );
    assert_eq!(other, PodQuota::default());
}

#[test]
fn a_pod_counts_with_its_sidecars_or_its_largest_init_container() {
    let of = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"memory": "1Ki"}});
    let pod = footprint(json!({
        "initContainers": [
            {"name": "mesh", "restartPolicy": "Always", "resources": of("1")},
            {"name": "init", "resources": of("5")},
        ],
        "containers": [{"name": "a", "resources": of("2")}, {"name": "b", "resources": of("1")}],
    }));
    assert_eq!(pod.of(Counted::RequestedCpu), 5000);
    assert_eq!(pod.of(Counted::LimitedMemory), 3 * 1024 * 1000);
    assert_eq!(
        pod.of(Counted::RequestedMemory),
        3 * 1024 * 1000,
        "by the limits"
    );
}

#[test]
fn a_quota_counts_the_pods_in_its_scopes() {
    let full = |scopes: Value| {
        let mut spec = json!({"hard": {"pods": "0"}});
        json_patch::merge(&mut spec, &scopes);
        quota(&spec, &json!({"pods": "0"})).room("q", &demand(0, 0, 0, 0)) != QuotaRoom::Free
    };
    let scope = |name: &str| json!({"scopes": [name]});
    for counting in ["Terminating", "NotBestEffort", "PriorityClass"] {
        assert!(full(scope(counting)), "{counting}");
    }
    for other in ["NotTerminating", "BestEffort", "CrossNamespacePodAffinity"] {
        assert!(!full(scope(other)), "{other}");
    }
    assert!(
        !full(json!({"scopes": ["Terminating", "BestEffort"]})),
        "all must match"
    );
    let class = |operator: &str, values: Value| {
        let requirement =
            json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
        full(json!({"scopeSelector": {"matchExpressions": [requirement]}}))
    };
    assert!(class("In", json!(["high", "headstart-prefetch"])));
    assert!(!class("In", json!(["high"])));
    assert!(class("NotIn", json!(["high"])) && !class("NotIn", json!(["headstart-prefetch"])));
    assert!(class("Exists", json!([])) && !class("DoesNotExist", json!([])));
}

#[test]
fn a_quota_for_pods_with_a_deadline_keeps_nothing_for_rollouts() {
    let spec = json!({"hard": {"pods": "1"}, "scopes": ["Terminating"]});
    let room = quota(&spec, &json!({"pods": "0"})).room("q", &demand(0, 0, 0, 9));
    assert_eq!(room, QuotaRoom::Free);
}
