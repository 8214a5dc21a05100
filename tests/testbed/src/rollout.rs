//! A Deployment whose pods land on every node, for the demo and the benchmark of rollouts.

mod timeline;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

pub use timeline::Timeline;

/// The name of the Deployment, and the label `app` of its pods.
pub const NAME: &str = "web";

/// The strategy by which a Deployment replaces its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// One new pod after the other, and never a pod too few.
    OneByOne,
    /// A quarter more and a quarter fewer: Kubernetes' default.
    Quarters,
}

impl Strategy {
    /// Returns the value of `spec.strategy`.
    pub fn spec(self) -> Value {
        let (surge, unavailable) = match self {
            Self::OneByOne => (json!(1), json!(0)),
            Self::Quarters => (json!("25%"), json!("25%")),
        };
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
    }
}

/// The Deployment.
pub fn deployment(namespace: &str, replicas: u16, strategy: Strategy, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": namespace, "name": NAME },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": NAME } },
            "strategy": strategy.spec(),
            "template": {
                "metadata": { "labels": { "app": NAME } },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{ "name": "app", "image": image }],
                    // Every node runs some of each revision, so every node has to pull.
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": { "matchLabels": { "app": NAME } }, "matchLabelKeys": ["pod-template-hash"],
                    }],
                },
            },
        },
    })
}

/// Returns whether every replica runs the newest template of the Deployment, and no other is left.
pub fn is_complete(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else {
        return false;
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    status.observed_generation >= deployment.metadata.generation
        && [
            status.updated_replicas,
            status.replicas,
            status.available_replicas,
        ]
        .iter()
        .all(|count| *count == wanted)
}
