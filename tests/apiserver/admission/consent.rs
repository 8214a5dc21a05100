//! Tests of consent: headstart acts only where a namespace consents, and only on pods of its own.

use headstart_core::api::well_known::{DEPLOYMENT_LABEL, NODE_ANNOTATION, PREFETCH_LABEL};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use testbed::process::Wait;

use crate::admission::certificates::served;
use crate::admission::installation::{Installation, PATIENCE, SHOP, deployment, until};

/// Nodes of the cluster.
const NODES: usize = 2;
/// The policy by which only headstart creates such pods. A test of other clients' pods needs it gone.
const BINDING: &str = "validatingadmissionpolicybinding/headstart-pods-are-headstarts";

/// A namespace with this value of the label.
async fn namespace(installation: &Installation, name: &str, consent: Option<&str>) {
    let labels = consent.map(|consent| json!({ PREFETCH_LABEL: consent }));
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
    let cluster = installation.cluster;
    cluster
        .kubectl_with_input(&["apply", "-f", "-"], &object.to_string())
        .await
        .unwrap();
    cluster.takes_pods(name).await.unwrap();
}

/// A Deployment that opts in by its own label.
fn opted_in(namespace: &str) -> String {
    let mut web = serde_json::to_value(deployment("web", "app:1")).unwrap();
    web["apiVersion"] = json!("apps/v1");
    web["kind"] = json!("Deployment");
    web["metadata"]["namespace"] = json!(namespace);
    web["metadata"]["labels"] = json!({ PREFETCH_LABEL: "enabled" });
    web.to_string()
}

/// Returns the number of prefetch pods of Deployments of this name.
async fn pods_of(installation: &Installation, namespace: &str, deployment: &str) -> usize {
    let pods: Api<Pod> = Api::namespaced(installation.client.clone(), namespace);
    let of_this = ListParams::default().labels(&format!("{DEPLOYMENT_LABEL}={deployment}"));
    pods.list(&of_this).await.unwrap().items.len()
}

#[tokio::test]
async fn a_deployment_opts_in_by_itself_where_its_namespace_allows_it() {
    let installation = Installation::new().await;
    let replica = installation.replica("replica", &["--retain=60s"]);
    installation.call_at(replica.port).await;
    replica.ready().await;
    served(&installation, replica.port).await;
    let [silent, refusing, allowing] = ["consent-none", "consent-disabled", "consent-allowed"];
    namespace(&installation, silent, None).await;
    namespace(&installation, refusing, Some("disabled")).await;
    namespace(&installation, allowing, Some("allowed")).await;
    let failed = installation.failed_open().await;

    let strictly = ["create", "--warnings-as-errors", "-f", "-"];
    let create = async |namespace: &str| {
        let web = opted_in(namespace);
        let created = installation.cluster.kubectl_with_input(&strictly, &web);
        created.await.map_err(|error| error.to_string())
    };
    let command =
        |namespace: &str| format!("kubectl label namespace {namespace} {PREFETCH_LABEL}=allowed");
    let warned = create(silent).await.unwrap_err();
    assert!(warned.contains(&command(silent)), "{warned}");
    assert!(
        warned.contains("1 warning received"),
        "and nothing else: {warned}"
    );
    create(refusing).await.unwrap();
    create(allowing).await.unwrap();
    let pods = async |namespace: &str| pods_of(&installation, namespace, "web").await;
    // The last of the three: the others have been looked at.
    until("the prefetch where it is allowed", async || {
        pods(allowing).await == NODES
    })
    .await;
    assert_eq!([pods(silent).await, pods(refusing).await], [0, 0]);

    // A user who labels the Deployment later is warned too, and what the warning proposes works.
    for value in ["disabled", "hold"] {
        let label = format!("{PREFETCH_LABEL}={value}");
        let label = [
            "label",
            "--overwrite",
            "--warnings-as-errors",
            "-n",
            silent,
            "deployment/web",
            &label,
        ];
        let labelled = installation.cluster.kubectl(&label).await;
        let warned = labelled
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert_eq!(
            warned.contains(&command(silent)),
            value == "hold",
            "{value}: {warned}"
        );
    }
    let says = command(silent);
    let label: Vec<&str> = says.split(' ').skip(1).collect();
    installation.cluster.kubectl(&label).await.unwrap();
    until("the prefetch that is allowed now", async || {
        pods(silent).await == NODES
    })
    .await;
    assert_eq!(pods(refusing).await, 0);
    let failed = installation.failed_open().await - failed;
    assert_eq!(failed, 0.0, "{:?}", installation.call_errors());
    for namespace in [silent, refusing, allowing] {
        let delete = ["delete", "deployment", "-n", namespace, "web"];
        installation.cluster.kubectl(&delete).await.unwrap();
    }
}

/// A pod with everything of a prefetch pod that can be changed later or means nothing by itself.
fn forged(namespace: &str, name: &str, node: &str, owner: &Deployment) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": namespace, "name": name,
            "labels": {
                "app.kubernetes.io/managed-by": "headstart", DEPLOYMENT_LABEL: owner.name_any(), "headstart.dev/revision": "0",
            },
            "annotations": { NODE_ANNOTATION: node },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": owner.name_any(), "uid": owner.uid(), "controller": true,
            }],
        },
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "activeDeadlineSeconds": 3600,
            "containers": [{ "name": "image-0", "image": "app:1" }],
        },
    })
}

/// The shape of what headstart makes, and orphaned, so that it would go at once and no one else deletes it.
fn orphaned(namespace: &str, node: &str, owner: &Deployment) -> Value {
    let mut pod = forged(namespace, "prefetch-orphaned", node, owner);
    pod["metadata"]["ownerReferences"] = Value::Null;
    pod["spec"]["containers"][0]["command"] = json!(["/.headstart/headstart", "noop"]);
    pod
}

#[tokio::test]
async fn pods_of_others_live_and_take_no_place_whatever_their_labels() {
    const SYSTEM: &str = "kube-system";
    let installation = Installation::new().await;
    let cluster = installation.cluster;
    // With the policy no other client could make such pods.
    cluster
        .kubectl(&["delete", "--ignore-not-found", BINDING])
        .await
        .unwrap();
    cluster.takes_pods(SYSTEM).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), SHOP);
    let owner = deployments
        .create(&PostParams::default(), &deployment("owner", "app:1"))
        .await
        .unwrap();
    let nodes = cluster
        .kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"])
        .await
        .unwrap();
    let nodes: Vec<&str> = nodes.split(' ').collect();
    assert_eq!(nodes.len(), NODES);

    let mut proxy = forged(SYSTEM, "proxy-x7x2z", nodes[0], &owner);
    // An owner in another namespace counts as gone, and so would the pod.
    proxy["metadata"]["ownerReferences"] = Value::Null;
    let mut others = vec![
        forged(SHOP, "prefetch-others", nodes[0], &owner),
        proxy,
        // The very shape, where headstart touches nothing.
        orphaned(SYSTEM, nodes[0], &owner),
    ];
    for (index, node) in nodes.iter().enumerate() {
        let mut gated = forged(SHOP, &format!("prefetch-gated-{index}"), node, &owner);
        gated["spec"]["nodeName"] = Value::Null;
        gated["spec"]["schedulingGates"] = json!([{ "name": "example.com/never" }]);
        gated["spec"]["containers"][0]["command"] = json!(["/headstart", "noop"]);
        others.push(gated);
    }
    let ours = orphaned(SHOP, nodes[0], &owner);
    let create = async |pod: &Value| {
        let pod = pod.to_string();
        cluster
            .kubectl_with_input(&["create", "-f", "-"], &pod)
            .await
    };
    let wait = Wait::new("the policy to be out of force", PATIENCE);
    while let Err(error) = create(&ours).await {
        assert!(
            error.to_string().contains("only headstart creates pods"),
            "{error}"
        );
        wait.pause().await.unwrap();
    }
    for pod in &others {
        create(pod).await.unwrap();
    }

    let replica = installation.replica("replica", &["--retain=60s"]);
    installation.call_at(replica.port).await;
    replica.ready().await;
    served(&installation, replica.port).await;
    let pods: Api<Pod> = Api::namespaced(installation.client.clone(), SHOP);
    until("headstart to delete what is its own", async || {
        pods.get_opt("prefetch-orphaned").await.unwrap().is_none()
    })
    .await;
    // Each node has one place, and every one is free.
    let web = deployment("web", "app:2");
    deployments
        .create(&PostParams::default(), &web)
        .await
        .unwrap();
    until("a prefetch on every node", async || {
        pods_of(&installation, SHOP, "web").await == NODES
    })
    .await;
    for pod in &others {
        let (namespace, name) = (
            &pod["metadata"]["namespace"],
            pod["metadata"]["name"].as_str().unwrap(),
        );
        let pods: Api<Pod> =
            Api::namespaced(installation.client.clone(), namespace.as_str().unwrap());
        let lives = pods.get_opt(name).await.unwrap();
        assert!(
            lives.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()),
            "{namespace}/{name}"
        );
        pods.delete(name, &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
    }
}
