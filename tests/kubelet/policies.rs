//! Clusters whose policies want something of every pod.

use serde_json::{Value, json};

use crate::cluster::{
    ANY_USER, Cluster, EVERY_NODE, POD_LABELS, alone_with, deployment, until, waiting,
};

/// The users of a namespace, as OpenShift gives each a range.
const FIRST_USER: u32 = 1_000_680_000;

/// A policy of this kind for the pods of a namespace, with its binding.
fn policy(kind: &str, namespace: &str, mut spec: Value) -> Vec<Value> {
    let (version, name) = (
        "admissionregistration.k8s.io/v1",
        format!("{kind}-{namespace}").to_lowercase(),
    );
    spec["failurePolicy"] = json!("Fail");
    spec["matchConstraints"] = json!({ "resourceRules": [
        { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }] });
    spec["matchConditions"] = json!([{ "name": "namespace", "expression": format!("request.namespace == '{namespace}'") }]);
    let mut binding = json!({ "policyName": name });
    if kind.starts_with("Validating") {
        binding["validationActions"] = json!(["Deny"]);
    }
    vec![
        json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name }, "spec": spec }),
        json!({ "apiVersion": version, "kind": format!("{kind}Binding"), "metadata": { "name": name }, "spec": binding }),
    ]
}

fn validating(namespace: &str, expression: &str, message: &str) -> Vec<Value> {
    let validations = json!([{ "expression": expression, "message": message }]);
    policy(
        "ValidatingAdmissionPolicy",
        namespace,
        json!({ "validations": validations }),
    )
}

/// Applies policies, and waits until they refuse a bare pod of the namespace.
async fn enforce(cluster: &Cluster, namespace: &str, policies: Vec<Value>) {
    for object in policies {
        cluster.apply(&object).await;
    }
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": namespace, "name": "bare" },
        "spec": { "containers": [{ "name": "a", "image": "a:1" }], "securityContext": { "runAsUser": 1 } } });
    until("the policy to be in force", async || {
        let dry_run = ["create", "--dry-run=server", "-f", "-"];
        let created = cluster
            .control_plane()
            .kubectl_with_input(&dry_run, &pod.to_string())
            .await;
        created.is_err_and(|error| error.to_string().contains("denied request"))
    })
    .await;
}

/// A Deployment without pods of its own.
async fn deploy(cluster: &Cluster, namespace: &str) -> String {
    let image = cluster.push(&format!("{namespace}/app:1")).await;
    let mut object = deployment(namespace, "web", waiting(&image));
    object["spec"]["replicas"] = json!(0);
    cluster.apply(&object).await;
    image
}

#[tokio::test]
async fn prefetch_pods_get_the_label_that_a_policy_wants_and_a_refusal_names_the_option() {
    let Some(turn) = alone_with(Some(POD_LABELS)).await else {
        return;
    };
    let cluster = &*turn;
    for (namespace, label) in [("wants-team", "team"), ("wants-owner", "owner")] {
        cluster.namespace(namespace, Some("enabled")).await;
        let expression = format!("'{label}' in object.metadata.?labels.orValue({{}})");
        let message = format!("pods need the label {label}");
        enforce(
            cluster,
            namespace,
            validating(namespace, &expression, &message),
        )
        .await;
    }
    let image = deploy(cluster, "wants-team").await;
    deploy(cluster, "wants-owner").await;
    cluster.until_prefetched("wants-team", "web", 1).await;
    assert_eq!(cluster.nodes_with(&image).await, EVERY_NODE);
    until("the refusal to be reported", async || {
        let blocked = cluster
            .events("wants-owner", "web", "PrefetchBlocked")
            .await;
        blocked.iter().any(|note| {
            note.contains("pods need the label owner")
                && note.ends_with("--pod-labels adds labels to prefetch pods")
        })
    })
    .await;
}

#[tokio::test]
async fn the_cluster_may_choose_the_user_of_prefetch_pods() {
    let Some(turn) = alone_with(Some(ANY_USER)).await else {
        return;
    };
    let cluster = &*turn;
    cluster.namespace("any-user", Some("enabled")).await;
    // As OpenShift's restricted-v2: it sets what a pod leaves open, and refuses what is outside of the range.
    let expression = format!(
        r#"[JSONPatch{{op: "add", path: "/spec/securityContext/seLinuxOptions",
            value: Object.spec.securityContext.seLinuxOptions{{level: "s0:c26,c5"}}}}] +
        object.spec.containers.transformList(i, c, JSONPatch{{op: "add",
            path: "/spec/containers/" + string(i) + "/securityContext/runAsUser", value: {FIRST_USER}}})"#
    );
    let sets = json!({
        "reinvocationPolicy": "Never",
        "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": expression } }],
    });
    let mut policies = policy("MutatingAdmissionPolicy", "any-user", sets);
    policies[0]["spec"]["matchConditions"][0]["expression"] = json!(
        "request.namespace == 'any-user' && object.metadata.name.startsWith('prefetch-') && \
         !has(object.spec.securityContext.runAsUser)"
    );
    let in_range = format!(
        "!has(object.spec.securityContext.runAsUser) && \
         object.spec.containers.all(c, c.?securityContext.?runAsUser.orValue(0) == {FIRST_USER})"
    );
    let message = "runAsUser: Invalid value: must be in the ranges: [1000680000, 1000689999]";
    policies.extend(validating("any-user", &in_range, message));
    enforce(cluster, "any-user", policies).await;
    let image = deploy(cluster, "any-user").await;
    cluster.until_prefetched("any-user", "web", 1).await;
    assert_eq!(cluster.nodes_with(&image).await, EVERY_NODE);
}
