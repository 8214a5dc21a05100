//! The steps of the script.

mod deployments;
mod pods;

use serde_json::{Value, json};

use super::{Exchange, Request};

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    /// What it asks, in words.
    pub(super) name: &'static str,
    /// The name by which later steps mean the object of the answer.
    pub(super) saved_as: Option<&'static str>,
    /// The exchange, with places to fill in.
    pub(super) exchange: Exchange,
}

const NODES: &str = "/api/v1/nodes";
const NODE: &str = "/api/v1/nodes/conformance";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/conformance/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/conformance/deployments/web";
const WEB_STATUS: &str = "/apis/apps/v1/namespaces/conformance/deployments/web/status";
const PODS: &str = "/api/v1/namespaces/conformance/pods";

fn step(
    name: &'static str,
    (method, path): (&'static str, &str),
    manager: &'static str,
    body: Value,
) -> Step {
    let path = path.to_owned();
    let request = Request {
        method,
        path,
        body,
        manager,
    };
    Step {
        name,
        saved_as: None,
        exchange: Exchange::Request(request),
    }
}

impl Step {
    fn saved_as(self, name: &'static str) -> Self {
        Self {
            saved_as: Some(name),
            ..self
        }
    }
}

fn get(name: &'static str, path: &str) -> Step {
    step(name, ("GET", path), "kubectl", Value::Null)
}

fn delete(name: &'static str, path: &str, options: Value) -> Step {
    step(name, ("DELETE", path), "kubectl", options)
}

fn quota(name: &'static str, most: Option<usize>) -> Step {
    Step {
        name,
        saved_as: None,
        exchange: Exchange::Quota(most),
    }
}

fn watch(name: &'static str, path: String, until: &'static str) -> Step {
    let request = Request {
        method: "GET",
        path,
        body: Value::Null,
        manager: "kubectl",
    };
    Step {
        name,
        saved_as: None,
        exchange: Exchange::Watch { request, until },
    }
}

fn labelled(value: &str) -> Value {
    json!({"metadata": {"labels": {"tier": value}}})
}

fn deployment(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": super::NAMESPACE, "name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        },
    })
}

/// A pod on a node that does not exist, changed.
fn pod(name: &str, change: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": super::NAMESPACE, "name": name},
        "spec": {"nodeName": "absent", "containers": [{"name": "app", "image": "app:1"}]},
    });
    json_patch::merge(&mut pod, &change);
    pod
}

fn create_pod(name: &'static str, pod_name: &str, change: Value) -> Step {
    step(name, ("POST", PODS), "kubectl", pod(pod_name, change))
}

fn path_of(pod: &str) -> String {
    format!("{PODS}/{pod}")
}

/// Returns all steps.
pub(super) fn all() -> Vec<Step> {
    [
        namespaces(),
        deployments::deployments(),
        deployments::updates(),
        deployments::deletes(),
        pods::pods(),
        pods::quotas(),
        nodes(),
        watches(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn namespaces() -> Vec<Step> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": super::NAMESPACE},
    });
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
    });
    let accounts = "/api/v1/namespaces/conformance/serviceaccounts";
    let absent = "/apis/apps/v1/namespaces/absent/deployments";
    let mut elsewhere = deployment("web", "app:1");
    elsewhere["metadata"]["namespace"] = json!("absent");
    let mut nameless = deployment("web", "app:1");
    nameless["metadata"]["name"] = Value::Null;
    vec![
        step(
            "create a namespace",
            ("POST", "/api/v1/namespaces"),
            "kubectl",
            namespace.clone(),
        ),
        step(
            "create it again",
            ("POST", "/api/v1/namespaces"),
            "kubectl",
            namespace,
        ),
        step(
            "create its ServiceAccount",
            ("POST", accounts),
            "kubectl",
            account,
        ),
        get("get a Deployment that does not exist", WEB),
        get("list a namespace that does not exist", absent),
        step(
            "create in a namespace that does not exist",
            ("POST", absent),
            "kubectl",
            elsewhere,
        ),
        step(
            "create without a name",
            ("POST", DEPLOYMENTS),
            "kubectl",
            nameless,
        ),
        get(
            "get of no resource",
            "/apis/apps/v1/namespaces/conformance/webs",
        ),
    ]
}

fn nodes() -> Vec<Step> {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "conformance"},
        "status": {"nodeInfo": {
            "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": "v1.37.2", "machineID": "", "operatingSystem": "",
            "osImage": "", "systemUUID": "",
        }},
    });
    let status = json!({"status": {"nodeInfo": {"kubeletVersion": "v1.38.0"}}});
    let node_status = format!("{NODE}/status");
    vec![
        step(
            "create a node with a status",
            ("POST", NODES),
            "kubelet",
            node.clone(),
        ),
        step("create the node again", ("POST", NODES), "kubelet", node),
        step(
            "cordon the node",
            ("PATCH", NODE),
            "kubectl",
            json!({"spec": {"unschedulable": true}}),
        ),
        step(
            "patch its status beside its path",
            ("PATCH", NODE),
            "kubelet",
            status.clone(),
        ),
        step(
            "patch its status",
            ("PATCH", &node_status),
            "kubelet",
            status,
        ),
        delete("delete the node", NODE, json!({})),
        get("get the node", NODE),
    ]
}

fn watches() -> Vec<Step> {
    let end = deployment("zz-end", "app:1");
    let from =
        |path: &str, step: &str| format!("{path}?watch=true&resourceVersion={{version of {step}}}");
    vec![
        step(
            "create the last Deployment",
            ("POST", DEPLOYMENTS),
            "kubectl",
            end,
        ),
        create_pod("create the last pod", "zz-end", json!({})),
        watch(
            "watch the Deployments",
            from(DEPLOYMENTS, "create"),
            "zz-end",
        ),
        watch("watch the pods", from(PODS, "quick"), "zz-end"),
        delete(
            "delete the namespace's last Deployment",
            &format!("{DEPLOYMENTS}/zz-end"),
            json!({}),
        ),
    ]
}
