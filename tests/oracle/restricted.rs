//! Prefetch pods, against the `restricted` level of `k8s.io/pod-security-admission`.

use headstart_core::pod::{NodeBinding, PodSettings, prefetch_pod};
use headstart_core::scheduling::node::PullMethod;
use headstart_core::workload::Workload;
use serde_json::{Value, json};

use crate::asking::Oracle;

/// A template that is as privileged as can be: nothing of that may reach its prefetch pods.
fn privileged() -> Workload {
    let container = json!({
        "name": "a", "image": "app:1", "ports": [{"containerPort": 80, "hostPort": 80}],
        "securityContext": {"privileged": true, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}},
    });
    let deployment = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "1"},
        "spec": {"selector": {}, "template": {"spec": {
            "initContainers": [{"name": "i", "image": "init:1", "securityContext": {"runAsUser": 0}}],
            "containers": [container, {"name": "b", "image": "b:1"}],
            "volumes": [{"name": "host", "hostPath": {"path": "/"}}, {"name": "v", "image": {"reference": "data:1"}}],
            "hostNetwork": true, "hostPID": true, "hostIPC": true,
            "securityContext": {"runAsUser": 0, "runAsNonRoot": false, "seccompProfile": {"type": "Unconfined"}},
            "runtimeClassName": "kata", "serviceAccountName": "admin", "imagePullSecrets": [{"name": "registry"}],
            "tolerations": [{"operator": "Exists"}],
        }}},
    }));
    Workload::from_deployment(&deployment.expect("a Deployment")).expect("it has a name")
}

#[test]
fn prefetch_pods_pass_the_restricted_level() {
    let web = privileged();
    let mut questions = Vec::new();
    for method in [PullMethod::ImageVolume, PullMethod::Container] {
        for pin in [NodeBinding::NodeName, NodeBinding::Affinity] {
            let settings = PodSettings {
                binding: pin,
                priority_class: Some("headstart-prefetch".into()),
                ..PodSettings::new("headstart:v1")
            };
            questions.push(json!({"restricted": prefetch_pod(&web, "n1", method, &settings)}));
        }
    }
    let passing = questions.len();
    // What fails when the level is not looked at.
    let mut lax = questions[0].clone();
    lax["restricted"]["spec"]["securityContext"]["seccompProfile"] = Value::Null;
    questions.push(lax);
    let answers = Oracle::start().ask(questions.clone());
    for (question, answer) in questions.iter().zip(&answers).take(passing) {
        assert!(answer.matches, "{question}");
    }
    assert!(answers[passing].refused, "without a seccomp profile");
}
