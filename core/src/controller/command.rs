//! The events that go into a controller and the commands that come out, as data.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::api::hold_mark::HoldId;
use crate::event::EventReason;
use crate::image::ImageSetId;
use crate::scheduling::selector::Selector;
use crate::store::{Change, DeploymentNode, NodeName};
use crate::time::Instant;
use crate::workload::{DeploymentKey, Workload};

use super::log::LogLine;
use super::observation::Observation;

/// Tells one command of a leadership term from all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// Something that happened. Events name objects; the controller reads their newest state from the store.
#[derive(Clone, Debug)]
pub enum Event {
    /// A Deployment changed. `reviewed` is the webhook's review of the stored images, if it is not used yet.
    DeploymentChanged {
        /// The Deployment.
        key: DeploymentKey,
        /// When the webhook admitted which images.
        reviewed: Option<Reviewed>,
    },
    /// Only the progress of a Deployment's rollout changed.
    RolloutChanged(DeploymentKey),
    /// A node came, went or changed.
    NodeChanged(NodeName),
    /// A prefetch pod changed.
    PodChanged(DeploymentNode),
    /// A command is done. The driver sends this exactly once for each command.
    CommandFinished {
        /// The command.
        id: CommandId,
        /// The result.
        result: CommandResult,
    },
    /// The permission to create pods changed.
    PermissionChanged(CreatePermission),
    /// The time that [`super::Controller::next_timeout`] returned has come.
    Timeout,
}

impl From<Change> for Event {
    fn from(change: Change) -> Self {
        match change {
            Change::Deployment(key) => Self::DeploymentChanged {
                key,
                reviewed: None,
            },
            Change::Rollout(key) => Self::RolloutChanged(key),
            Change::Node(node) => Self::NodeChanged(node),
            Change::Pod(at) => Self::PodChanged(at),
        }
    }
}

/// A review that the webhook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// The images that were admitted.
    pub images: ImageSetId,
    /// When the review came in.
    pub at: Instant,
}

/// The permission to create pods: with `--require-policies`, only after the self-test has shown that all policies are
/// enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CreatePermission {
    /// The self-test has no answer yet: creates wait for it.
    #[default]
    Unknown,
    /// Yes.
    Granted,
    /// No, and why.
    Refused(String),
}

/// A request to the API server. The driver sends each once; retries are timers of the controller.
#[derive(Clone, Debug)]
pub enum Command {
    /// Creates a prefetch pod.
    CreatePod {
        /// Names the command.
        id: CommandId,
        /// The pod.
        pod: Arc<Pod>,
    },
    /// Deletes a pod if it still has this UID.
    DeletePod {
        /// Names the command.
        id: CommandId,
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
        /// The UID.
        uid: String,
    },
    /// Ends the hold of a Deployment.
    ResumeRollout {
        /// Names the command.
        id: CommandId,
        /// The Deployment.
        key: DeploymentKey,
        /// The hold: no other hold of the Deployment is ended.
        hold: HoldId,
        /// Only if it waits for these images.
        only_if: Option<ImageSetId>,
    },
    /// Lists pods of a Deployment.
    ListPods {
        /// Names the command.
        id: CommandId,
        /// The Deployment.
        workload: Arc<Workload>,
        /// Selects its pods.
        selector: Selector,
        /// Which of them.
        filter: PodFilter,
    },
    /// Reads the pull secrets of a ServiceAccount.
    ReadPullSecrets {
        /// Names the command.
        id: CommandId,
        /// The Deployment that uses the account.
        key: DeploymentKey,
        /// The name of the account, in the namespace of the Deployment.
        account: String,
    },
}

impl Command {
    /// Returns the name of the command.
    pub fn id(&self) -> CommandId {
        match self {
            Self::CreatePod { id, .. }
            | Self::DeletePod { id, .. }
            | Self::ResumeRollout { id, .. }
            | Self::ListPods { id, .. }
            | Self::ReadPullSecrets { id, .. } => *id,
        }
    }

    /// Returns the result of a command that ended without one: nothing is known of what it did.
    pub fn unknown_result(&self, message: &str) -> CommandResult {
        let unknown = || WriteError::Unknown(message.to_owned());
        match self {
            Self::CreatePod { .. } => CommandResult::PodCreated(Err(unknown())),
            Self::DeletePod { .. } => CommandResult::PodDeleted(Err(unknown())),
            Self::ResumeRollout { .. } => CommandResult::Resumed(Err(unknown())),
            Self::ListPods { .. } => CommandResult::PodsListed(Err(message.to_owned())),
            Self::ReadPullSecrets { .. } => CommandResult::PullSecretsRead(Err(message.to_owned())),
        }
    }
}

/// Which pods of a Deployment are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodFilter {
    /// Those that have not ended.
    Running,
    /// Those that are about to start and bring all images of the Deployment.
    Starting,
}

/// The result of a command.
#[derive(Clone, Debug)]
pub enum CommandResult {
    /// The pod is stored, under this UID if it was not there already.
    PodCreated(Result<Option<String>, WriteError>),
    /// The pod is gone, or is another by the same name.
    PodDeleted(Result<(), WriteError>),
    /// The hold is over, or something else was found.
    Resumed(Result<ResumeOutcome, WriteError>),
    /// The nodes that have such pods.
    PodsListed(Result<BTreeSet<String>, String>),
    /// The names of the pull secrets; none if there is no such account.
    PullSecretsRead(Result<Vec<String>, String>),
}

/// Why a write was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The API server refuses it, and would refuse it again: quota, a policy, a namespace that is being deleted.
    Refused {
        /// The status code.
        status: u16,
        /// The message.
        message: String,
    },
    /// The API server could not do it now: 408, 409, 429, 5xx, no connection.
    Unavailable {
        /// The message.
        message: String,
        /// When the API server asks for the next attempt.
        retry_after: Option<Duration>,
    },
    /// There was no answer: it may have been done, or not.
    Unknown(String),
    /// This replica does not lead any more; it was not sent.
    NotLeader,
    /// The lease ended before the answer: it may have been done, or not.
    LeaseEnded,
}

impl WriteError {
    /// Returns the class of the error, for reports that are made once for each.
    pub(super) fn class(&self) -> String {
        match self {
            Self::Refused { status, .. } => format!("Refused{status}"),
            Self::Unavailable { .. } => "Unavailable".to_owned(),
            Self::Unknown(_) => "Unknown".to_owned(),
            Self::NotLeader => "NotLeader".to_owned(),
            Self::LeaseEnded => "LeaseEnded".to_owned(),
        }
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        match self {
            Self::Refused { message, .. }
            | Self::Unavailable { message, .. }
            | Self::Unknown(message) => message,
            Self::NotLeader => "this replica does not lead any more",
            Self::LeaseEnded => "the lease ended before the answer",
        }
    }

    /// Returns whether the lease is the reason. The term ends too then, and nothing is reported: the next leader does the same
    /// again.
    pub fn is_end_of_lease(&self) -> bool {
        matches!(self, Self::NotLeader | Self::LeaseEnded)
    }
}

/// The result of a resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeOutcome {
    /// The rollout goes on.
    Resumed,
    /// Another client had resumed it; the marks are gone now.
    AlreadyResumed,
    /// It stays paused, because another client pauses it; the marks are gone now.
    LeftPaused,
    /// There is no such hold.
    NotHeld,
    /// It waits for other images.
    ImagesChanged,
    /// The Deployment was changed between the read and the write; nothing was written.
    Conflict,
}

/// An event on a Deployment, for `kubectl describe`.
#[derive(Clone, Debug)]
pub struct EventRecord {
    /// The Deployment.
    pub workload: Arc<Workload>,
    /// The reason.
    pub reason: EventReason,
    /// Tells events of one reason apart: each is written once.
    pub subject: String,
    /// The text.
    pub note: String,
}

/// All that comes out of one event.
#[derive(Debug, Default)]
pub struct Output {
    /// Requests to send.
    pub commands: Vec<Command>,
    /// Events to write.
    pub events: Vec<EventRecord>,
    /// Measurements to record.
    pub observations: Vec<Observation>,
    /// Lines to log.
    pub logs: Vec<LogLine>,
}

impl Output {
    /// Adds an event on a Deployment.
    pub(super) fn event(
        &mut self,
        workload: &Arc<Workload>,
        reason: EventReason,
        subject: impl Into<String>,
        note: String,
    ) {
        self.events.push(EventRecord {
            workload: workload.clone(),
            reason,
            subject: subject.into(),
            note,
        });
    }
}
