//! headstart under another name in another namespace: one overlay moves everything, the policies too.

use serde_json::json;
use testbed::headstart::{LOCAL_IMAGE, Local};

use super::requests::Request;
use super::{
    client_of, forbidden, grant_everything, in_force, made, others, pods, refused, revoke, web,
};
use crate::admission::installation::{Installation, SHOP};

const NAMESPACE: &str = "infra";
const NAME: &str = "hs";

#[tokio::test]
async fn policy_follows_headstart_to_another_namespace_and_name() {
    let installation = Installation::new().await;
    let cluster = installation.cluster;
    Local::install_elsewhere(cluster, NAMESPACE, NAME)
        .await
        .unwrap();
    cluster.takes_pods(NAMESPACE).await.unwrap();
    let own = client_of(&installation, NAMESPACE, NAME).await;
    grant_everything(&installation, &own, &format!("{NAMESPACE}:{NAME}")).await;
    in_force(&own).await;
    let web = web(&installation).await;
    pods::make_victims(&installation, NAMESPACE).await;
    others::make_held(&installation).await;
    let count = refused(&own, forbidden(NAMESPACE, &web)).await;
    assert!(count >= 60, "{count}");
    revoke(&installation, &own).await;
    pods::remove_victims(&installation, NAMESPACE).await;

    // With the rights that the manifests give: the pods, the CA, the lease, and the end of a hold.
    let path = format!("/api/v1/namespaces/{SHOP}/pods?dryRun=All");
    for pod in made(&web) {
        Request::post(&path, pod).send(&own).await.unwrap();
    }
    for request in others::allowed(NAMESPACE) {
        request.send(&own).await.unwrap();
    }
    let path =
        format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{NAME}");
    let bundle = json!([{ "op": "add", "path": "/webhooks/0/clientConfig/caBundle",
        "value": k8s_openapi::ByteString(installation.callers.ca.cert().as_bytes().to_vec()) }]);
    Request::patch(&path, bundle).send(&own).await.unwrap();

    // Flags, selectors and flow schemas follow.
    let stored = Request::get(&path)
        .send(&installation.client)
        .await
        .unwrap();
    let selector = &stored["webhooks"][0]["namespaceSelector"]["matchExpressions"];
    assert!(
        selector.to_string().contains(&format!("[\"{NAMESPACE}\",")),
        "{selector}"
    );
    let deployment = Request::get(&format!(
        "/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}"
    ));
    let deployment = deployment.send(&installation.client).await.unwrap();
    let environment = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let value = |name: &str| {
        let all = environment.as_array().unwrap().iter();
        let found = all
            .clone()
            .find(|variable| variable["name"] == name)
            .unwrap();
        found["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(value("HEADSTART_NOOP_IMAGE"), LOCAL_IMAGE);
    for variable in [
        "HEADSTART_SERVICE",
        "HEADSTART_DEPLOYMENT",
        "HEADSTART_WEBHOOK_CONFIGURATION",
    ] {
        assert_eq!(value(variable), NAME, "{variable}");
    }
    let schema = Request::get("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/headstart-lease");
    let schema = schema.send(&installation.client).await.unwrap();
    let rule = &schema["spec"]["rules"][0];
    assert_eq!(
        rule["subjects"][0]["serviceAccount"],
        json!({ "name": NAME, "namespace": NAMESPACE })
    );
    assert_eq!(rule["resourceRules"][0]["namespaces"], json!([NAMESPACE]));

    Local::remove_elsewhere(cluster, NAMESPACE, NAME)
        .await
        .unwrap();
    // The policies are this installation's again.
    installation.apply_manifests().await;
}
