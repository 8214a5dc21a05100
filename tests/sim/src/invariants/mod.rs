//! The invariants: what must hold after each step, and what must have become true some time after all faults have ended.

pub(crate) mod commands;
mod holds;
pub(crate) mod liveness;
mod pods;
mod quotas;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use headstart_core::api::well_known::HELD_LABEL;
use headstart_core::controller::Output;
use headstart_core::controller::command::{CommandResult, ResumeOutcome, WriteError};
use headstart_core::controller::log::LogLine;
use headstart_core::controller::observation::Observation;
use headstart_core::event::EventReason;
use headstart_core::image::ImageSetId;
use headstart_core::workload::DeploymentKey;
use serde_json::json;

use crate::api_server::{Object, ObjectKey};
use crate::cluster::Cluster;
use crate::options::Fault;
use crate::queue::TermId;
use crate::replica::Replica;
use crate::workloads::is_held;
use holds::HeldSince;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// The object.
    pub object: String,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    /// Returns a violation.
    pub fn new(invariant: &'static str, object: &str, detail: &str) -> Self {
        Self {
            invariant,
            object: object.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.invariant, self.object, self.detail)
    }
}

/// The Deployments that their users pause, by UID.
#[derive(Debug, Default)]
pub(crate) struct UserPauses(BTreeSet<String>);

impl UserPauses {
    /// Records whether a user pauses a Deployment.
    pub(crate) fn set(&mut self, uid: &str, paused: bool) {
        if paused {
            self.0.insert(uid.to_owned());
        } else {
            self.0.remove(uid);
        }
    }

    /// Returns whether a user pauses a Deployment.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.0.contains(uid)
    }
}

/// Watches the simulation.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    /// The Deployments that their users pause.
    pub pauses: UserPauses,
    /// The UIDs of the pods that headstart has created.
    created: BTreeSet<String>,
    /// How long each hold is overdue, by the UID of the Deployment.
    held: BTreeMap<String, HeldSince>,
    /// The time for which each pod is in the way, by its UID, the beginning of the leader's term, and the invariant.
    in_the_way: BTreeMap<(String, u64, &'static str), u64>,
    /// How long a quota has refused a rollout's pods beside pods of headstart, by the Deployment.
    crowded: BTreeMap<ObjectKey, u64>,
    /// The events that were written, by the Deployment and the reason's name.
    pub reported: BTreeSet<(DeploymentKey, &'static str)>,
    /// Deployments that a leader took for rolled out before its term, or before they were enabled.
    pub(crate) rolled_out_before: BTreeSet<DeploymentKey>,
}

/// Returns the replica that leads, if its writes are not refused.
fn working_leader<'a>(replicas: &'a [Replica], cluster: &Cluster) -> Option<&'a Replica> {
    let now = cluster.now();
    let works = cluster.is_api_up() && now >= cluster.write_errors.0;
    let mut replicas = replicas.iter();
    replicas.find(|replica| works && replica.is_active(now))
}

impl Monitor {
    /// Checks what a controller has said.
    ///
    /// # Errors
    /// Names the invariant that does not hold.
    pub(crate) fn on_output(
        &mut self,
        term: TermId,
        out: &Output,
        cluster: &mut Cluster,
    ) -> Result<(), Violation> {
        for event in &out.events {
            let name = event.reason.as_str();
            self.reported.insert((event.workload.key.clone(), name));
            cluster.count(&format!("event: {name}"));
            cluster.note(|| {
                format!(
                    "{:?} event {name} {}: {}",
                    term.life, event.workload.key, event.note
                )
            });
            if event.reason == EventReason::RolloutResumed {
                holds::check_warm(&event.workload, &event.note, cluster)?;
            }
        }
        for observation in &out.observations {
            match observation {
                Observation::HoldEnded { reason, .. } => {
                    cluster.count(&format!("hold: ended as {reason}"));
                }
                Observation::NodePulled(_) => cluster.count("pull: present"),
                Observation::PodLost => cluster.count("pull: pod lost"),
                _ => {}
            }
        }
        for line in &out.logs {
            match line {
                LogLine::PodLost { pause: None, .. } => cluster.count("pull: abandoned"),
                LogLine::PodLost { .. } => cluster.count("pull: back-off"),
                LogLine::ImageFailed { .. } => cluster.count("pull: failed"),
                LogLine::CountFailed { paused: true, .. } => cluster.count("pull: counts paused"),
                LogLine::NodeRefused { .. } => cluster.count("pull: node refused"),
                LogLine::NodeSilent(_) => cluster.count("pull: kubelet silent"),
                LogLine::CreateRefused { .. } => cluster.count("pull: refused"),
                LogLine::CreateFailed { .. } => cluster.count("pull: create failed"),
                LogLine::RolledOutBefore(key) => {
                    cluster.count("pull: rolled out before");
                    self.rolled_out_before.insert(key.clone());
                }
                LogLine::Prefetching { key, .. } => {
                    self.rolled_out_before.remove(key);
                }
                LogLine::TermsChanged(_) => cluster.count("pull: other terms"),
                LogLine::Deferred { .. } => cluster.count("pull: deferred"),
                LogLine::NodeJoined { .. } => cluster.count("pull: node joined"),
                LogLine::DeletingPods { .. } => cluster.count("pull: pods deleted"),
                LogLine::NotResumed { .. } => cluster.count("hold: not resumed"),
                LogLine::LeftPaused(_) => cluster.count("hold: left paused"),
                LogLine::HoldMarkRemoved(_) => cluster.count("hold: mark removed"),
                LogLine::Held { .. } => cluster.count("hold: reported"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts an answer.
    pub(crate) fn on_answer(&self, cluster: &mut Cluster, result: &CommandResult) {
        let error = |error: &WriteError| match error {
            WriteError::Refused { .. } => "refused",
            WriteError::Unavailable { .. } => "unavailable",
            WriteError::Unknown(_) => "unknown",
            WriteError::NotLeader | WriteError::LeaseEnded => "not leader",
        };
        let what = match result {
            CommandResult::PodCreated(Ok(Some(_))) => "create: new".to_owned(),
            CommandResult::PodCreated(Ok(None)) => "create: exists".to_owned(),
            CommandResult::PodCreated(Err(why)) => format!("create: {}", error(why)),
            CommandResult::PodDeleted(Ok(())) => "delete: done".to_owned(),
            CommandResult::PodDeleted(Err(why)) => format!("delete: {}", error(why)),
            CommandResult::Resumed(Ok(outcome)) => match outcome {
                ResumeOutcome::Resumed => "resume: resumed",
                ResumeOutcome::AlreadyResumed => "resume: already",
                ResumeOutcome::LeftPaused => "resume: left paused",
                ResumeOutcome::NotHeld => "resume: not held",
                ResumeOutcome::ImagesChanged => "resume: images changed",
                ResumeOutcome::Conflict => "resume: conflict",
            }
            .to_owned(),
            CommandResult::Resumed(Err(why)) => format!("resume: {}", error(why)),
            CommandResult::PodsListed(Ok(_))
            | CommandResult::PullSecretsRead(Ok(_))
            | CommandResult::PodsCounted(Ok(_)) => "lookup: done".to_owned(),
            _ => "lookup: failed".to_owned(),
        };
        cluster.count(&what);
    }

    /// Takes a pod that headstart has created.
    pub(crate) fn on_created(&mut self, pod: &Object) {
        self.created.insert(pod.uid().to_owned());
    }

    /// Checks a pod that headstart has deleted (S1).
    ///
    /// # Errors
    /// Headstart has not created that pod, or meant another.
    pub(crate) fn on_deleted(&self, pod: &Object, meant: &str) -> Result<(), Violation> {
        let name = pod.metadata("name");
        if !self.created.contains(pod.uid()) {
            let detail = "a pod is deleted that headstart did not create";
            return Err(Violation::new("S1 deletes", name, detail));
        }
        if pod.uid() != meant {
            let detail = "a later pod by the same name is deleted";
            return Err(Violation::new("S1 deletes", name, detail));
        }
        Ok(())
    }

    /// Lets a user write while the request for a resume is on its way.
    pub(crate) fn before_resume(&mut self, key: &ObjectKey, cluster: &mut Cluster) {
        let mut random = cluster.draw(&["before resume", &key.name]);
        if cluster.healed || !random.per_mille(150) {
            return;
        }
        let Ok(stored) = cluster.api.get(key) else {
            return;
        };
        if !is_held(&stored.value) {
            return;
        }
        let patch = if cluster.options.has(Fault::WebhookSkipped) {
            // No webhook sees it, so the marks stay.
            let mut containers = stored.value["spec"]["template"]["spec"]["containers"].clone();
            containers[0]["image"] = json!(crate::actions::image(0, random.within(4..=5)));
            json!({"spec": {"template": {"spec": {"containers": containers}}}})
        } else if cluster.options.has(Fault::Forgery) {
            // Without the label it is a pause like any other.
            self.pauses.set(stored.uid(), true);
            json!({"metadata": {"labels": {HELD_LABEL: null}}})
        } else {
            return;
        };
        cluster.count("fault: write before a resume");
        cluster.note(|| format!("user writes {} before its resume: {patch}", key.name));
        let _ = cluster.api.patch(key, &patch, "kubectl");
    }

    /// Lets a user write between the read and the write of a resume.
    pub(crate) fn between_read_and_write(&mut self, key: &ObjectKey, cluster: &mut Cluster) {
        let mut random = cluster.draw(&["between", &key.name]);
        let forgery =
            cluster.options.has(Fault::Forgery) || cluster.options.has(Fault::WriteErrors);
        if !forgery || cluster.healed || !random.per_mille(300) {
            return;
        }
        let Ok(stored) = cluster.api.get(key) else {
            return;
        };
        cluster.count("fault: write during a resume");
        cluster.note(|| format!("user pauses {} between read and write", key.name));
        let applied = json!({"spec": {"paused": true}}).to_string();
        let patch = json!({
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}},
            "spec": {"paused": true},
        });
        if cluster.api.patch(key, &patch, "kubectl").is_ok() {
            self.pauses.set(stored.uid(), true);
        }
    }

    /// Checks the write that ends a hold (S2).
    ///
    /// # Errors
    /// It changes more than that, or what it should not.
    pub(crate) fn on_resumed(
        &mut self,
        key: &ObjectKey,
        before: &Object,
        after: &Object,
        only_if: Option<&ImageSetId>,
    ) -> Result<(), Violation> {
        holds::check_resume(key, before, after, only_if, &self.pauses)
    }
}
