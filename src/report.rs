//! Events on the Deployment: what happened to its images, where `kubectl describe` shows it.
//!
//! Written as `events.k8s.io/v1` objects with names made from what they say: after a restart or a change of leader
//! the same event is written once, where kube's `Recorder` would count it again, and drop a differing note.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use crate::domain::workload::{Workload, short_hash};

/// The reporting controller, in the form that Kubernetes wants.
const CONTROLLER: &str = "headstart.dev/headstart";
/// Longest note, in bytes: the API server refuses a longer one.
const MAX_NOTE: usize = 1024;
/// Events that wait to be written. They are for people, a few per rollout; when the API server is slower than that,
/// the newest are dropped and logged.
const BACKLOG: usize = 1024;
/// Events on their way at once: pods are in more of a hurry.
const WRITERS: usize = 4;
/// How long one may take to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Prefetch pods are being created.
    PrefetchStarted,
    /// Every planned node is decided, and all are warm.
    Prefetched,
    /// An image failed on a node.
    PrefetchFailed,
    /// The API server refuses prefetch pods: quota, a policy.
    PrefetchBlocked,
    /// An image of the template is not prefetched.
    ImageNotPrefetched,
    /// An annotation of headstart's cannot be read.
    InvalidAnnotation,
    /// The rollout waits for its images.
    RolloutHeld,
    /// It waits no longer.
    RolloutResumed,
    /// It need not wait, but whoever wrote it wants it paused.
    RolloutLeftPaused,
    /// It should wait no longer, and headstart cannot resume it.
    RolloutNotResumed,
    /// On headstart's own Deployment: the API server allows what a policy of headstart's forbids.
    PolicyNotEnforced,
    /// On headstart's own Deployment: a webhook of headstart's is called elsewhere.
    WebhookMisdirected,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::PrefetchStarted => "PrefetchStarted",
            Self::Prefetched => "Prefetched",
            Self::PrefetchFailed => "PrefetchFailed",
            Self::PrefetchBlocked => "PrefetchBlocked",
            Self::ImageNotPrefetched => "ImageNotPrefetched",
            Self::InvalidAnnotation => "InvalidAnnotation",
            Self::RolloutHeld => "RolloutHeld",
            Self::RolloutResumed => "RolloutResumed",
            Self::RolloutLeftPaused => "RolloutLeftPaused",
            Self::RolloutNotResumed => "RolloutNotResumed",
            Self::PolicyNotEnforced => "PolicyNotEnforced",
            Self::WebhookMisdirected => "WebhookMisdirected",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::PrefetchStarted
            | Self::Prefetched
            | Self::RolloutHeld
            | Self::RolloutResumed
            | Self::RolloutLeftPaused => "Normal",
            Self::PrefetchFailed
            | Self::PrefetchBlocked
            | Self::ImageNotPrefetched
            | Self::InvalidAnnotation
            | Self::RolloutNotResumed
            | Self::PolicyNotEnforced
            | Self::WebhookMisdirected => "Warning",
        }
    }

    /// What headstart did, or tried to.
    fn action(self) -> &'static str {
        match self {
            Self::RolloutHeld => "Hold",
            Self::RolloutResumed | Self::RolloutLeftPaused | Self::RolloutNotResumed => "Resume",
            Self::PolicyNotEnforced | Self::WebhookMisdirected => "SelfTest",
            _ => "Prefetch",
        }
    }
}

/// Takes events and writes them in the background.
#[derive(Clone, Debug)]
pub struct Reporter {
    events: mpsc::Sender<Event>,
    instance: Arc<str>,
}

impl Reporter {
    /// A reporter, and the task that writes for it; the task ends when the last reporter is dropped.
    pub fn new(client: Client, instance: &str) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (events, backlog) = mpsc::channel(BACKLOG);
        (
            Self {
                events,
                instance: instance.into(),
            },
            write(client, backlog),
        )
    }

    /// Reports about a Deployment. `subject` tells reports of one reason apart: the same Deployment, images, reason
    /// and subject are reported once.
    pub fn report(&self, workload: &Workload, reason: Reason, subject: &str, note: String) {
        let event = event(workload, reason, subject, note, &self.instance);
        if let Err(error) = self.events.try_send(event) {
            let event = match error {
                mpsc::error::TrySendError::Full(event)
                | mpsc::error::TrySendError::Closed(event) => event,
            };
            warn!(deployment = %workload.key, reason = event.reason, note = event.note, "an event could not be written");
        }
    }
}

fn event(
    workload: &Workload,
    reason: Reason,
    subject: &str,
    note: String,
    instance: &str,
) -> Event {
    let revision = workload.revision.to_string();
    let hash = short_hash([workload.uid.as_str(), &revision, reason.as_str(), subject]);
    // Names of Deployments are at most 253 bytes, as names of events are.
    let prefix = workload
        .key
        .name
        .get(..200)
        .unwrap_or(&workload.key.name)
        .trim_end_matches(['-', '.']);
    Event {
        metadata: ObjectMeta {
            namespace: Some(workload.key.namespace.clone()),
            name: Some(format!("{prefix}.{hash}")),
            ..ObjectMeta::default()
        },
        action: Some(reason.action().into()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(truncated(note)),
        reason: Some(reason.as_str().into()),
        regarding: Some(ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some("Deployment".into()),
            namespace: Some(workload.key.namespace.clone()),
            name: Some(workload.key.name.clone()),
            uid: Some(workload.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(instance.get(..128).unwrap_or(instance).into()),
        type_: Some(reason.kind().into()),
        ..Event::default()
    }
}

fn truncated(mut note: String) -> String {
    const ELLIPSIS: char = '…';
    if note.len() > MAX_NOTE {
        let room = MAX_NOTE - ELLIPSIS.len_utf8();
        note.truncate(
            (0..=room)
                .rev()
                .find(|at| note.is_char_boundary(*at))
                .unwrap_or(0),
        );
        note.push(ELLIPSIS);
    }
    note
}

async fn write(client: Client, mut backlog: mpsc::Receiver<Event>) {
    futures::stream::poll_fn(move |context| backlog.poll_recv(context))
        .for_each_concurrent(WRITERS, |event| write_one(client.clone(), event))
        .await;
}

async fn write_one(client: Client, event: Event) {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client, namespace);
    match timeout(WRITE_TIMEOUT, api.create(&PostParams::default(), &event)).await {
        Ok(Ok(_)) => {}
        // Said already, by us before a restart or by the leader before us.
        Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => {}
        Ok(Err(error)) => {
            warn!(%error, reason = event.reason, note = event.note, "cannot write an event")
        }
        Err(_) => warn!(
            reason = event.reason,
            note = event.note,
            "writing an event timed out"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workload::tests::workload;
    use serde_json::json;

    #[test]
    fn the_same_thing_has_the_same_name_and_another_another() {
        let web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
        let name = |reason, subject: &str, note: &str| {
            event(&web, reason, subject, note.into(), "pod-1")
                .metadata
                .name
        };
        assert_eq!(
            name(Reason::PrefetchFailed, "app:1", "on n1"),
            name(Reason::PrefetchFailed, "app:1", "on n2"),
        );
        assert_ne!(
            name(Reason::PrefetchFailed, "app:1", ""),
            name(Reason::PrefetchFailed, "app:2", "")
        );
        assert_ne!(
            name(Reason::Prefetched, "", ""),
            name(Reason::PrefetchStarted, "", "")
        );
    }

    #[test]
    fn notes_fit() {
        let note = truncated("é".repeat(1000));
        assert!(note.len() <= MAX_NOTE && note.ends_with('…'));
        assert_eq!(truncated("short".into()), "short");
    }
}
