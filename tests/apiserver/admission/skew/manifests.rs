//! The order in which the manifests are applied: what bounds an account and gives it rights is there before what runs as it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::previous_release;
use crate::admission::installation::Installation;

/// Kinds of objects that start pods.
const WORKLOADS: [&str; 2] = ["Deployment", "CronJob"];

/// Returns the objects of a kustomization in the order in which `kubectl apply -k` sends them.
async fn rendered(installation: &Installation, manifests: &Path) -> Vec<Value> {
    let directory = manifests.display().to_string();
    let kustomize = ["kustomize", &directory];
    let text = installation.cluster.kubectl(&kustomize).await.unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn account_of(workload: &Value) -> &str {
    let template = match workload["kind"].as_str() {
        Some("CronJob") => &workload["spec"]["jobTemplate"]["spec"]["template"],
        _ => &workload["spec"]["template"],
    };
    template["spec"]["serviceAccountName"].as_str().unwrap()
}

/// Returns whether an object has to be there before something runs as this account.
fn comes_before(object: &Value, account: &str) -> bool {
    let names_account = |list: &Value| {
        let subjects = list.as_array().into_iter().flatten();
        subjects.clone().any(|subject| subject["name"] == account)
    };
    match object["kind"].as_str().unwrap() {
        "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => true,
        "ServiceAccount" => object["metadata"]["name"] == account,
        "ClusterRoleBinding" | "RoleBinding" => names_account(&object["subjects"]),
        _ => false,
    }
}

#[tokio::test]
async fn policies_and_rights_are_applied_before_what_runs_by_them() {
    let installation = Installation::new().await;
    let this = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let previous = previous_release().await.map(|release| release.manifests());
    let all: Vec<PathBuf> = [this].into_iter().chain(previous).collect();
    for manifests in all {
        let objects = rendered(&installation, &manifests).await;
        let kind = |object: &&Value| object["kind"].as_str().unwrap().to_owned();
        let mut workloads = 0;
        for (position, workload) in objects.iter().enumerate() {
            if !WORKLOADS.contains(&&*kind(&workload)) {
                continue;
            }
            workloads += 1;
            let account = account_of(workload);
            let (before, after) = objects.split_at(position);
            let late = after.iter().filter(|object| comes_before(object, account));
            let late: Vec<String> = late
                .map(|object| object["metadata"]["name"].to_string())
                .collect();
            assert!(late.is_empty(), "after {account}'s pods: {late:?}");
            let early: Vec<_> = before
                .iter()
                .filter(|object| comes_before(object, account))
                .map(|object| kind(&object))
                .collect();
            for wanted in [
                "ValidatingAdmissionPolicyBinding",
                "ServiceAccount",
                "ClusterRoleBinding",
            ] {
                assert!(
                    early.iter().any(|kind| kind == wanted),
                    "{wanted} for {account}: {early:?}"
                );
            }
        }
        assert!(workloads > 0, "{}", manifests.display());
    }
}
