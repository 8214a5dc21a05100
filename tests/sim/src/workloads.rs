//! The Deployments of users: their names, images and manifests.

use headstart_core::api::annotations::AFTER_READY;
use headstart_core::api::hold_mark::is_mark;
use headstart_core::api::well_known::{
    HELD_LABEL, HELD_SINCE, HELD_UNTIL, HELD_VALUE, PREFETCH_LABEL,
};
use headstart_core::hold::LAST_APPLIED;
use headstart_core::workload::DeploymentKey;
use serde_json::{Value, json};

use crate::api_server::{Kind, ObjectKey};

/// A device that some nodes have.
pub(crate) const DEVICE: &str = "example.com/device";

/// A Deployment by its number: users have a few names, which come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeploymentId(pub usize);

/// A user's manifest of a Deployment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// The Deployment.
    pub id: DeploymentId,
    /// The namespace.
    pub namespace: String,
    /// The images of its containers.
    pub images: Vec<String>,
    /// The number of replicas.
    pub replicas: u64,
    /// The value of headstart's label, if it is set.
    pub mode: Option<String>,
    /// `spec.paused`, if the manifest has it.
    pub paused: Option<bool>,
    /// The pull secret, if it names one.
    pub secret: Option<String>,
    /// The label that its nodes must have, if it asks for one.
    pub pool: Option<String>,
    /// headstart's annotations.
    pub annotations: Vec<(String, String)>,
}

impl Manifest {
    /// Returns the name.
    pub(crate) fn name(&self) -> String {
        format!("web{}", self.id.0)
    }

    /// Returns the name of the object.
    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey::new(Kind::Deployment, &self.namespace, &self.name())
    }

    /// Returns the object as a user writes it.
    pub(crate) fn object(&self) -> Value {
        let name = self.name();
        let mut labels = json!({"app": name});
        if let Some(mode) = &self.mode {
            labels[PREFETCH_LABEL] = json!(mode);
        }
        let containers: Vec<Value> = self.images.iter().enumerate().map(container).collect();
        let mut pod = json!({"containers": containers});
        // Some want a device that not all nodes have, and some want pods that are ready first.
        if self.id.0 % 4 == 2 && !self.images.is_empty() {
            pod["containers"][0]["resources"] = json!({"limits": {DEVICE: "1"}});
        }
        if let Some(secret) = &self.secret {
            pod["imagePullSecrets"] = json!([{"name": secret}]);
        }
        if let Some(pool) = &self.pool {
            pod["nodeSelector"] = json!({"pool": pool});
        }
        let mut annotations = json!({ LAST_APPLIED: self.last_applied() });
        if self.id.0 % 3 == 1 {
            annotations[AFTER_READY] = json!("1");
        }
        for (key, value) in &self.annotations {
            annotations[key] = json!(value);
        }
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "namespace": self.namespace, "name": name, "labels": labels, "annotations": annotations,
            },
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
            },
        });
        if let Some(paused) = self.paused {
            object["spec"]["paused"] = json!(paused);
        }
        object
    }

    /// What client-side apply keeps of the manifest, as far as headstart reads it.
    fn last_applied(&self) -> String {
        let paused = self
            .paused
            .map_or_else(|| json!({}), |paused| json!({ "paused": paused }));
        json!({"metadata": {"labels": {"app": self.name()}}, "spec": paused}).to_string()
    }

    /// Returns the merge patch that client-side apply makes: the manifest, without what the last one had and this one has not.
    pub(crate) fn apply_patch(&self, last: &Self) -> Value {
        let mut patch = self.object();
        if last.paused.is_some() && self.paused.is_none() {
            patch["spec"]["paused"] = Value::Null;
        }
        if last.mode.is_some() && self.mode.is_none() {
            patch["metadata"]["labels"][PREFETCH_LABEL] = Value::Null;
        }
        for (key, _) in &last.annotations {
            if !self.annotations.iter().any(|(own, _)| own == key) {
                patch["metadata"]["annotations"][key] = Value::Null;
            }
        }
        let pod = &mut patch["spec"]["template"]["spec"];
        if self.secret.is_none() {
            pod["imagePullSecrets"] = Value::Null;
        }
        if self.pool.is_none() {
            pod["nodeSelector"] = Value::Null;
        }
        patch
    }
}

fn container((index, image): (usize, &String)) -> Value {
    json!({"name": format!("c{index}"), "image": image})
}

/// Returns the images of a Deployment's template.
pub(crate) fn images_of(deployment: &Value) -> Vec<String> {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    let images = containers.into_iter().flatten();
    let images = images.filter_map(|container| container["image"].as_str());
    images.map(str::to_owned).collect()
}

/// Returns whether an object carries the mark of a hold and is paused.
pub(crate) fn is_held(deployment: &Value) -> bool {
    deployment["metadata"]["labels"][HELD_LABEL] == "true" && is_paused(deployment)
}

/// Returns whether a Deployment is paused.
pub(crate) fn is_paused(deployment: &Value) -> bool {
    deployment["spec"]["paused"].as_bool() == Some(true)
}

/// Returns whether the manifest that was applied last pauses a Deployment.
pub(crate) fn is_paused_by_manifest(deployment: &Value) -> bool {
    let applied = deployment["metadata"]["annotations"][LAST_APPLIED].as_str();
    let applied = applied.and_then(|applied| serde_json::from_str::<Value>(applied).ok());
    applied.is_some_and(|applied| applied["spec"]["paused"] == true)
}

/// Pauses a Deployment, and marks it as held.
pub fn hold(deployment: &mut Value, since: &str, until: &str) {
    let marks = json!({
        "metadata": {
            "labels": {HELD_LABEL: HELD_VALUE},
            "annotations": {HELD_SINCE: since, HELD_UNTIL: until},
        },
        "spec": {"paused": true},
    });
    json_patch::merge(deployment, &marks);
}

/// Takes all marks of a hold away.
pub(crate) fn remove_marks(deployment: &mut Value) {
    for map in ["labels", "annotations"] {
        if let Some(map) = deployment["metadata"][map].as_object_mut() {
            map.retain(|key, _| !is_mark(key));
        }
    }
}

/// Returns headstart's name of a Deployment.
pub(crate) fn core_key(key: &ObjectKey) -> DeploymentKey {
    DeploymentKey {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

/// Returns the API server's name of a Deployment.
pub(crate) fn object_key(key: &DeploymentKey) -> ObjectKey {
    ObjectKey::new(Kind::Deployment, &key.namespace, &key.name)
}
