//! The course of one update of a Deployment, as a watch shows it.
//!
//! Times are those at which the watch brought the news. A pod's own timestamps are in whole seconds, which is as long as a pod
//! takes to start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use super::is_complete;

/// One update, from its write on.
#[derive(Debug)]
pub struct Timeline {
    image: String,
    replicas: usize,
    begun: Instant,
    pods: BTreeMap<String, Seen>,
    /// Until when `lost` is summed up.
    counted: Instant,
    lost: Duration,
    is_held: bool,
    held: Option<Duration>,
    complete: Option<Duration>,
}

#[derive(Debug, Default)]
struct Seen {
    is_new: bool,
    is_ready: bool,
    scheduled: Option<Instant>,
    started: Option<Instant>,
}

impl Timeline {
    /// Of an update to this image; [`Self::begin`] says when it is written.
    pub fn new(replicas: u16, image: &str) -> Self {
        let now = Instant::now();
        Self {
            image: image.to_owned(),
            replicas: replicas.into(),
            begun: now,
            pods: BTreeMap::new(),
            counted: now,
            lost: Duration::ZERO,
            is_held: false,
            held: None,
            complete: None,
        }
    }

    /// The update is being written. The pods that were seen so far are the state before it.
    pub fn begin(&mut self, now: Instant) {
        self.begun = now;
        self.counted = now;
        self.lost = Duration::ZERO;
    }

    /// A pod of the Deployment is so now.
    pub fn pod(&mut self, now: Instant, pod: &Pod) {
        self.count_until(now);
        let Some(name) = pod.metadata.name.clone() else {
            return;
        };
        let seen = self.pods.entry(name).or_default();
        let spec = pod.spec.as_ref();
        seen.is_new = spec.is_some_and(|spec| {
            spec.containers
                .iter()
                .any(|container| container.image.as_deref() == Some(&self.image))
        });
        if spec.is_some_and(|spec| spec.node_name.is_some()) {
            seen.scheduled.get_or_insert(now);
        }
        if runs(pod) {
            seen.started.get_or_insert(now);
        }
        // A pod that is being deleted gets no requests any more.
        seen.is_ready = pod.metadata.deletion_timestamp.is_none() && is_ready(pod);
    }

    /// A pod is no more.
    pub fn pod_gone(&mut self, now: Instant, pod: &Pod) {
        self.count_until(now);
        if let Some(name) = &pod.metadata.name {
            self.pods.remove(name);
        }
    }

    /// The Deployment is so now.
    pub fn deployment(&mut self, now: Instant, deployment: &Deployment) {
        self.count_until(now);
        let is_paused = deployment
            .spec
            .as_ref()
            .is_some_and(|spec| spec.paused == Some(true));
        if self.is_held && !is_paused {
            self.held = Some(now.duration_since(self.begun));
        }
        self.is_held = is_paused;
        let runs_it = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref())
            .is_some_and(|spec| {
                spec.containers
                    .iter()
                    .any(|container| container.image.as_deref() == Some(&self.image))
            });
        if runs_it && !is_paused && is_complete(deployment) && self.complete.is_none() {
            self.complete = Some(now.duration_since(self.begun));
        }
    }

    fn count_until(&mut self, now: Instant) {
        if self.complete.is_none() {
            let ready = self.pods.values().filter(|pod| pod.is_ready).count();
            let missing = self.replicas.saturating_sub(ready);
            let missing = u32::try_from(missing).unwrap_or(u32::MAX);
            self.lost += now.duration_since(self.counted) * missing;
        }
        self.counted = now;
    }

    /// From the write until every replica ran the image, once that is so and the start of every one was seen.
    pub fn complete(&self) -> Option<Duration> {
        self.complete
            .filter(|_| self.starts().len() >= self.replicas)
    }

    /// Returns the time of each new pod from its scheduling until its container ran.
    pub fn starts(&self) -> Vec<Duration> {
        let new = self.pods.values().filter(|pod| pod.is_new);
        new.filter_map(|pod| Some(pod.started?.duration_since(pod.scheduled?)))
            .collect()
    }

    /// Returns the number of missing ready pods, multiplied by the time for which each was missing.
    pub fn lost(&self) -> Duration {
        self.lost
    }

    /// From the write until the Deployment was resumed, if it was paused by the write.
    pub fn held(&self) -> Option<Duration> {
        self.held
    }
}

fn runs(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses.is_some_and(|statuses| {
        !statuses.is_empty()
            && statuses.iter().all(|status| {
                status
                    .state
                    .as_ref()
                    .is_some_and(|state| state.running.is_some())
            })
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Strategy, deployment};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pod(name: &str, image: &str, is_ready: bool) -> Pod {
        let status = if is_ready {
            json!({
                "conditions": [{ "type": "Ready", "status": "True" }],
                "containerStatuses": [{ "name": "app", "image": image, "imageID": "", "ready": true, "restartCount": 0,
                    "state": { "running": {} } }],
            })
        } else {
            json!({})
        };
        serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "nodeName": "node-1", "containers": [{ "name": "app", "image": image }] },
            "status": status,
        }))
        .unwrap()
    }

    fn state(paused: bool, available: u16) -> Deployment {
        let mut object = deployment("shop", 2, Strategy::Quarters, "web:2");
        object["spec"]["paused"] = json!(paused);
        object["metadata"]["generation"] = json!(2);
        object["status"] = json!({
            "observedGeneration": 2, "replicas": 2, "updatedReplicas": available, "availableReplicas": available,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn missing_pods_are_counted_from_the_write_until_it_is_complete() {
        let mut timeline = Timeline::new(2, "web:2");
        let begun = Instant::now();
        timeline.pod(begun, &pod("old", "web:1", true));
        timeline.begin(begun);
        // One is missing for a second, then two for half of one.
        timeline.pod(begun + SECOND, &pod("first", "web:2", false));
        timeline.pod_gone(begun + SECOND, &pod("old", "web:1", true));
        timeline.pod(begun + SECOND * 3 / 2, &pod("first", "web:2", true));
        timeline.pod(begun + SECOND * 3 / 2, &pod("second", "web:2", true));
        timeline.deployment(begun + SECOND * 2, &state(false, 2));
        timeline.pod_gone(begun + SECOND * 3, &pod("first", "web:2", true));
        timeline.pod(begun + SECOND * 4, &pod("third", "web:2", true));
        assert_eq!(timeline.lost(), SECOND * 2);
        assert_eq!(timeline.complete(), Some(SECOND * 2));
        assert_eq!(timeline.held(), None);
    }

    #[test]
    fn a_start_is_from_scheduled_to_running_and_of_new_pods_only() {
        let mut timeline = Timeline::new(2, "web:2");
        let begun = Instant::now();
        timeline.pod(begun, &pod("old", "web:1", true));
        timeline.begin(begun);
        timeline.pod(begun + SECOND, &pod("first", "web:2", false));
        timeline.pod(begun + SECOND * 2, &pod("first", "web:2", false));
        timeline.pod(begun + SECOND * 4, &pod("first", "web:2", true));
        timeline.deployment(begun + SECOND * 4, &state(false, 2));
        assert_eq!(timeline.starts(), [SECOND * 3]);
        assert_eq!(
            timeline.complete(),
            None,
            "the start of the second was not seen yet"
        );
    }

    #[test]
    fn a_hold_lasts_until_the_deployment_is_resumed() {
        let mut timeline = Timeline::new(2, "web:2");
        let begun = Instant::now();
        timeline.begin(begun);
        timeline.deployment(begun + SECOND, &state(true, 0));
        timeline.deployment(begun + SECOND * 5, &state(false, 0));
        timeline.deployment(begun + SECOND * 6, &state(false, 1));
        assert_eq!(timeline.held(), Some(SECOND * 5));
    }
}
