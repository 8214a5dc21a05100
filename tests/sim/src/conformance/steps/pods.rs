//! Steps about pods: how they end, and quota.

use serde_json::json;

use super::{PODS, Step, create_pod, delete, get, path_of, quota, step};

/// Pods and their ends.
pub(super) fn pods() -> Vec<Step> {
    let at_once = json!({"spec": {"terminationGracePeriodSeconds": 0}});
    let status = |phase: &str| json!({"status": {"phase": phase}});
    let set_phase = |name, pod: &str, phase: &str| {
        let path = format!("{PODS}/{pod}/status");
        step(name, ("PATCH", &path), "kubelet", status(phase))
    };
    let gate = json!([{"name": "example.com/never"}]);
    let bound_and_gated = json!({"spec": {"schedulingGates": gate}});
    let gated = json!({"spec": {"nodeName": null, "schedulingGates": gate}});
    let none = || json!({});
    vec![
        create_pod("create a pod that ends at once, with a status", "quick", {
            let mut quick = at_once.clone();
            quick["status"] = json!({"phase": "Succeeded"});
            quick
        })
        .saved_as("quick"),
        create_pod("create the pod again", "quick", at_once),
        create_pod(
            "create a pod with a node and a gate",
            "gated",
            bound_and_gated,
        ),
        step(
            "patch the status of a pod beside its path",
            ("PATCH", &path_of("quick")),
            "kubectl",
            status("Failed"),
        ),
        delete(
            "delete a pod by another UID",
            &path_of("quick"),
            json!({"preconditions": {"uid": "other"}}),
        ),
        delete(
            "delete it",
            &path_of("quick"),
            json!({"preconditions": {"uid": "{uid of quick}"}}),
        ),
        get("get the pod", &path_of("quick")),
        create_pod(
            "create a pod that takes its time",
            "slow",
            json!({"metadata": {"labels": {"app": "web"}}}),
        ),
        delete("delete the slow pod", &path_of("slow"), none()),
        get("get the slow pod", &path_of("slow")),
        delete("delete the slow pod again", &path_of("slow"), none()),
        create_pod("create the slow pod again", "slow", none()),
        delete(
            "delete the slow pod at once",
            &path_of("slow"),
            json!({"gracePeriodSeconds": 0}),
        ),
        get("get the slow pod after that", &path_of("slow")),
        create_pod("create a pod that ends", "ended", none()),
        set_phase("the pod ends", "ended", "Succeeded"),
        set_phase("the pod ends again", "ended", "Succeeded"),
        delete("delete the pod that has ended", &path_of("ended"), none()),
        get("get the pod that had ended", &path_of("ended")),
        create_pod("create a pod with a gate", "gated", gated),
        delete("delete the pod with a gate", &path_of("gated"), none()),
        get("get the pod with a gate", &path_of("gated")),
        get("list the pods", PODS),
    ]
}

/// Quota, which refuses before the name is looked up, and lists.
pub(super) fn quotas() -> Vec<Step> {
    let app = |app: &str| json!({"metadata": {"labels": {"app": app}}});
    vec![
        create_pod("create the first pod", "one", app("one")),
        quota("a quota of one pod", Some(1)),
        create_pod("create a pod beyond the quota", "two", app("two")),
        create_pod(
            "create a pod that exists beyond the quota",
            "one",
            app("one"),
        ),
        quota("no quota", None),
        create_pod("create the second pod", "two", app("two")),
        get(
            "list the pods of a label",
            &format!("{PODS}?labelSelector=app%3Dtwo"),
        ),
        get("list all pods", PODS),
    ]
}
