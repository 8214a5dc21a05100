//! The kubelets of a [`World`]: they report the status of its pods. Also questions about pods, and write errors.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::world::{World, acknowledged};
use crate::controller::command::WriteError;

impl World {
    /// Shows that these pods have pulled all their images and ended.
    pub(super) fn pull(&mut self, pods: &[Pod]) {
        for pod in pods {
            let pod = self.pulled(pod);
            self.show(&pod);
        }
    }

    pub(super) fn pulled(&self, pod: &Pod) -> Pod {
        let done = json!({"terminated": {"exitCode": 0, "finishedAt": self.now.wall}});
        with_status(pod, "Succeeded", &done, "sha256:1")
    }

    /// Shows that these pods cannot pull an image.
    pub(super) fn fail_pulls(&mut self, pods: &[Pod], message: &str) {
        let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": message}});
        for pod in pods {
            self.show(&with_status(pod, "Pending", &waiting, ""));
        }
    }

    /// Shows that the kubelet waits before it tries these pods' images again.
    pub(super) fn back_off(&mut self, pods: &[Pod], message: &str) {
        let message = format!("Back-off pulling image \"a:1\": ErrImagePull: {message}");
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
        for pod in pods {
            self.show(&with_status(pod, "Pending", &waiting, ""));
        }
    }

    /// Shows that the kubelets have seen these pods.
    pub(super) fn acknowledge(&mut self, pods: &[Pod]) {
        for pod in pods {
            let mut pod = pod.clone();
            pod.status = Some(acknowledged(self.now));
            self.show(&pod);
        }
    }

    /// Shows that the containers of these pods wait for this reason.
    pub(super) fn wait_with(&mut self, pods: &[Pod], reason: &str) {
        let waiting = json!({"waiting": {"reason": reason}});
        for pod in pods {
            self.show(&with_status(pod, "Pending", &waiting, ""));
        }
    }

    /// Shows that the kubelet refused these pods.
    pub(super) fn reject(&mut self, pods: &[Pod]) {
        for pod in pods {
            let mut pod = pod.clone();
            let status = json!({"phase": "Failed", "reason": "OutOfpods", "message": "no room"});
            pod.status = serde_json::from_value(status).unwrap();
            self.show(&pod);
        }
    }
}

fn with_status(pod: &Pod, phase: &str, state: &Value, image_id: &str) -> Pod {
    let mut pod = pod.clone();
    let containers = &pod.spec.as_ref().unwrap().containers;
    let statuses: Vec<Value> = containers
        .iter()
        .map(|container| {
            json!({
                "name": container.name, "image": "", "imageID": image_id, "ready": false, "restartCount": 0,
                "state": state,
            })
        })
        .collect();
    let status = json!({"phase": phase, "containerStatuses": statuses});
    pod.status = serde_json::from_value(status).unwrap();
    pod
}

/// Returns the node that a pod is for.
pub(super) fn node_of(pod: &Pod) -> &str {
    crate::pod::node_of(pod).unwrap()
}

/// Returns the nodes that pods are for, sorted.
pub(super) fn nodes_of(pods: &[Pod]) -> Vec<&str> {
    let mut nodes: Vec<&str> = pods.iter().map(node_of).collect();
    nodes.sort_unstable();
    nodes
}

/// Returns how many images a pod brings.
pub(super) fn image_count(pod: &Pod) -> usize {
    pod.spec.as_ref().unwrap().containers.len()
}

pub(super) const NOT_FOUND: &str = "rpc error: code = NotFound desc = gone: not found";
pub(super) const UNAUTHORIZED: &str = "unexpected status: 401 Unauthorized";
pub(super) const NO_SUCH_HOST: &str = "failed to do request: Head \"https://gone.test/v2/a/manifests/1\": dial tcp: lookup gone.test on 10.96.0.10:53: no such host";
pub(super) const WRONG_PLATFORM: &str = "no match for platform in manifest: not found";

pub(super) fn refused(message: &str) -> WriteError {
    WriteError::Refused {
        status: 403,
        message: message.into(),
    }
}

pub(super) fn unavailable() -> WriteError {
    WriteError::Unavailable {
        message: "busy".into(),
        retry_after: None,
    }
}
