//! The conditions of a correct end: images on all planned nodes, no hold, and no pod that is created twice.

use std::collections::{BTreeMap, BTreeSet};

use headstart_core::api::well_known::{HELD_LABEL, REVISION_LABEL};
use headstart_core::pod::node_of;
use headstart_core::testing::settings;
use headstart_core::workload::Workload;
use headstart_sim::api_server::{Kind, Object, ObjectKey, is_finished};
use headstart_sim::{planned_nodes, pod_images};

use crate::cluster::is_ours;
use crate::server::State;

/// Returns the images of a Deployment that are missing on nodes where its pods could run.
pub(crate) fn missing_images(state: &State, key: &ObjectKey, deployment: &Object) -> Vec<String> {
    let workload = Workload::from_deployment(deployment.deployment()).unwrap();
    let mut missing = Vec::new();
    for node in planned_nodes(&state.api, &workload, &settings()) {
        for image in &workload.images {
            let pulled = (node.uid().to_owned(), image.as_written.to_string());
            if !state.pulled.contains(&pulled) {
                let (image, name) = (&image.as_written, node.metadata("name"));
                missing.push(format!(
                    "{}/{}: {image} is not on {name}",
                    key.namespace, key.name
                ));
            }
        }
    }
    missing
}

/// Returns what is not done yet.
pub(crate) fn unfinished(state: &State) -> Vec<String> {
    let mut unfinished = Vec::new();
    for (key, deployment) in state.api.list(Kind::Deployment) {
        let name = format!("{}/{}", key.namespace, key.name);
        unfinished.extend(missing_images(state, key, deployment));
        if deployment.label(HELD_LABEL).is_some() {
            unfinished.push(format!("{name}: the mark of a hold is left"));
        }
        if deployment.value["spec"]["paused"] == true {
            unfinished.push(format!("{name}: it is paused, and not by its user"));
        }
    }
    for (key, pod) in state.api.list(Kind::Pod).filter(|(_, pod)| is_ours(pod)) {
        let owner = pod.owner_uid();
        let mut deployments = state.api.list(Kind::Deployment);
        if !deployments.any(|(_, deployment)| Some(deployment.uid()) == owner) {
            unfinished.push(format!("pod {}: its Deployment is gone", key.name));
        } else if !is_finished(&pod.value) {
            unfinished.push(format!("pod {}: it is not finished", key.name));
        }
    }
    unfinished
}

/// Returns the images that a pod brings.
fn images(pod: &Object) -> impl Iterator<Item = String> {
    pod.pod().spec.iter().flat_map(pod_images)
}

/// Returns the pods that were created although another for the same Deployment, node and image was there or had brought the image.
pub(crate) fn duplicates(state: &State) -> Vec<String> {
    type Pull<'a> = (Option<&'a str>, Option<&'a str>, &'a str);
    let mut last: BTreeMap<Pull<'_>, &Object> = BTreeMap::new();
    let mut found = Vec::new();
    let log = state.api.log[Kind::Pod.index()].iter();
    for entry in log.filter(|entry| is_ours(&entry.object)) {
        let pod = &*entry.object;
        let owner = pod.owner_uid();
        let pull = (
            owner,
            pod.label(REVISION_LABEL),
            node_of(pod.pod()).unwrap_or_default(),
        );
        if entry.deleted {
            // Without a pod nothing says that the images are there, except to the leader that has seen it.
            last.remove(&pull);
            continue;
        }
        let before = last.insert(pull, pod);
        if let Some(before) = before.filter(|before| before.uid() != pod.uid())
            && before.value["status"]["phase"] != "Failed"
            && images(before).any(|image| images(pod).any(|other| other == image))
        {
            let (first, second) = (before.metadata("name"), pod.metadata("name"));
            found.push(format!("{second} was created beside {first}"));
        }
    }
    found
}

/// Returns how many prefetch pods were created.
pub(crate) fn created(state: &State) -> usize {
    let log = state.api.log[Kind::Pod.index()].iter();
    let ours = log.filter(|entry| is_ours(&entry.object));
    let uids: BTreeSet<&str> = ours.map(|entry| entry.object.uid()).collect();
    uids.len()
}
